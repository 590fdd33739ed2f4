"""Stacks as data: what is the same, what differs, what is shown of it, what it can write to."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from warmd.core import normal, specs
from warmd.core.model import LABEL_STACK, Bundle, Json, Mount
from warmd.core.specdiff import diff, mask

SECOND = 1_000_000_000


def spec(
    *,
    name: str = "shop_app",
    image: str = "app:1.0",
    container: Json | None = None,
    task: Json | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A service as docker's client posts it."""
    inner = {"Image": image, "Labels": {LABEL_STACK: "shop"}, **(container or {})}
    return {
        "Name": name,
        "Labels": {LABEL_STACK: "shop"},
        "TaskTemplate": {"ContainerSpec": inner, "ForceUpdate": 0, **(task or {})},
        "Mode": {"Replicated": {"Replicas": 1}},
        **more,
    }


def bundle(*services: Json, **parts: Any) -> Bundle:
    return Bundle(services=services, **parts)


def data(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SAME = {
    "the engine's runtime and isolation": (
        spec(),
        spec(container={"Isolation": "default"}, task={"Runtime": "container"}),
    ),
    "nulls, falses and empties": (
        spec(),
        spec(container={"Privileges": {"CredentialSpec": None, "NoNewPrivileges": False}, "Env": []}),
    ),
    "no count and one replica": (spec(), spec(Mode={"Replicated": {"Replicas": None}})),
    "no mode and replicated": (spec(), spec(Mode={})),
    "the default grace": (spec(), spec(container={"StopGracePeriod": 10 * SECOND})),
    "the default restart policy": (
        spec(),
        spec(task={"RestartPolicy": {"Condition": "any", "Delay": 5 * SECOND, "MaxAttempts": 0}}),
    ),
    "no update config and one at a time": (
        spec(),
        spec(
            UpdateConfig={
                "Parallelism": 1,
                "FailureAction": "pause",
                "MaxFailureRatio": 0,
                "Order": "stop-first",
            }
        ),
    ),
    "a published port's protocol": (
        spec(EndpointSpec={"Ports": [{"TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}]}),
        spec(
            EndpointSpec={
                "Mode": "vip",
                "Ports": [
                    {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"},
                ],
            }
        ),
    ),
    "the order of networks and aliases": (
        spec(task={"Networks": [{"Target": "a", "Aliases": ["x", "y"]}, {"Target": "b"}]}),
        spec(task={"Networks": [{"Target": "b"}, {"Target": "a", "Aliases": ["y", "x"]}]}),
    ),
    "platforms that a client looked up": (
        spec(),
        spec(task={"Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]}}),
    ),
    "a forced update": (spec(), spec(task={"ForceUpdate": 7})),
    "a volume's empty driver config": (
        spec(container={"Mounts": [{"Type": "volume", "Source": "a", "Target": "/a"}]}),
        spec(
            container={
                "Mounts": [
                    {"Type": "volume", "Source": "a", "Target": "/a", "VolumeOptions": {"DriverConfig": {}}}
                ]
            }
        ),
    ),
}

OTHER = {
    "image": spec(image="app:1.1"),
    "digest": spec(image="app:1.0@sha256:abc"),
    "environment": spec(container={"Env": ["A=1"]}),
    "no environment value": spec(container={"Env": ["A"]}),
    "grace": spec(container={"StopGracePeriod": 0}),
    "init off and not said": spec(container={"Init": False}),
    "restart at once": spec(task={"RestartPolicy": {"Condition": "any", "Delay": 0}}),
    "scaled to zero": spec(Mode={"Replicated": {"Replicas": 0}}),
    "global": spec(Mode={"Global": {}}),
    "job": spec(Mode={"ReplicatedJob": {"MaxConcurrent": 1}}),
    "port": spec(EndpointSpec={"Ports": [{"TargetPort": 80}]}),
    "container label": spec(container={"Labels": {LABEL_STACK: "shop", "x": ""}}),
    "empty driver option": spec(task={"LogDriver": {"Name": "json-file", "Options": {"a": ""}}}),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME.keys())
def test_what_means_the_same_is_the_same(one: Json, other: Json) -> None:
    assert normal.service(one) == normal.service(other)
    assert specs.same_running(bundle(one), bundle(other))
    assert diff(bundle(one), bundle(other)) == ()


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER.keys())
def test_what_would_restart_a_task_is_not_the_same(other: Json) -> None:
    assert not specs.same_running(bundle(spec()), bundle(other))
    assert not specs.same_service(spec(), other)
    assert len(diff(bundle(spec()), bundle(other))) >= 1


@pytest.mark.parametrize(
    "other",
    [
        spec(Labels={LABEL_STACK: "shop", "x": "y"}),
        spec(UpdateConfig={"Parallelism": 0, "FailureAction": "pause"}),
        spec(RollbackConfig={"Parallelism": 2}),
    ],
    ids=["label", "all at once", "rollback"],
)
def test_what_is_only_about_the_service_restarts_nothing_but_is_a_difference(other: Json) -> None:
    assert specs.same_running(bundle(spec()), bundle(other))
    assert len(diff(bundle(spec()), bundle(other))) == 1


def test_a_service_more_is_not_the_same() -> None:
    assert not specs.same_running(bundle(spec()), bundle(spec(), spec(name="shop_db")))


class TestNetworks:
    def test_what_the_engine_adds_is_left_out(self) -> None:
        assert normal.network(
            {"Name": "a", "Driver": "overlay", "IPAM": {"Driver": "default"}}
        ) == normal.network({"Name": "a", "CheckDuplicate": True, "IPAM": None, "Attachable": False})

    @pytest.mark.parametrize(
        ("gateway", "same"), [("10.1.2.1", True), ("10.1.2.254", False)], ids=["first", "another"]
    )
    def test_the_first_address_is_the_gateway_anyway(self, gateway: str, same: bool) -> None:
        asked, seen = (
            {"Name": "a", "IPAM": {"Config": [{"Subnet": "10.1.2.0/24", **more}]}}
            for more in ({}, {"Gateway": gateway})
        )
        assert (normal.network(asked) == normal.network(seen)) is same

    def test_a_pool_may_be_without_a_subnet(self) -> None:
        network = {"Name": "a", "IPAM": {"Config": [{"IPRange": "10.0.0.0/24"}]}}
        assert normal.network(network)["IPAM"] == network["IPAM"]


SEEN_NETWORK = {
    "Name": "shop_inner",
    "Id": "n1",
    "Scope": "swarm",
    "Driver": "overlay",
    "IPAM": {
        "Driver": "default",
        "Options": None,
        "Config": [{"Subnet": "10.0.3.0/24", "Gateway": "10.0.3.1"}],
    },
    "Internal": True,
    "Attachable": False,
    "ConfigFrom": {"Network": ""},
    "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097", "encrypted": ""},
    "Labels": {LABEL_STACK: "shop"},
}


def seen_network(**changes: Any) -> dict[str, Any]:
    return {**SEEN_NETWORK, **changes}


def read_back(*services: Json, **parts: Any) -> Bundle:
    found: dict[str, Any] = {"networks": [], "configs": [], "secrets": [], **parts}
    return specs.read_back("shop", services, **found)


class TestReadBack:
    def test_references_are_by_name_and_warmds_labels_left_out(self) -> None:
        live = spec(
            container={
                "Isolation": "default",
                "Configs": [{"ConfigID": "c1", "ConfigName": "shop_c", "File": {"Name": "/c"}}],
                "Secrets": [{"SecretID": "s1", "SecretName": "shop_s"}],
            },
            task={"Runtime": "container", "Networks": [{"Target": "n1"}, {"Target": "gone"}]},
            Labels={LABEL_STACK: "shop", "warmd.owner": "me", "x": "y"},
        )
        (back,) = read_back(live, networks=[SEEN_NETWORK]).services
        assert back["Labels"] == {LABEL_STACK: "shop", "x": "y"}
        task = back["TaskTemplate"]
        assert [n["Target"] for n in task["Networks"]] == ["shop_inner", "gone"]
        assert "ForceUpdate" not in task
        assert "Isolation" not in task["ContainerSpec"]
        assert task["ContainerSpec"]["Configs"][0]["ConfigID"] == ""
        assert task["ContainerSpec"]["Secrets"][0]["SecretID"] == ""

    def test_only_the_stacks_own_objects_stand_in_it(self) -> None:
        own, other = ({"Labels": {LABEL_STACK: s}} for s in ("shop", "else"))
        back = read_back(
            networks=[SEEN_NETWORK, seen_network(Name="other", Id="n2", Labels=None)],
            configs=[{"Spec": {"Name": n, "Data": "eA==", **o}} for n, o in (("c", own), ("d", other))],
            secrets=[{"Spec": {"Name": n, **o}} for n, o in (("s", own), ("t", other))],
        )
        assert [n["Name"] for n in back.networks] == ["shop_inner"]
        assert back.configs == ({"Name": "c", "Labels": {LABEL_STACK: "shop"}, "Data": "eA=="},)
        assert back.secrets == ({"Name": "s", "Labels": {LABEL_STACK: "shop"}},)

    def test_a_secrets_mark_is_kept(self) -> None:
        labels = {LABEL_STACK: "shop", specs.LABEL_CONTENT: "abc", "warmd.run": "r"}
        (secret,) = read_back(secrets=[{"Spec": {"Name": "s", "Labels": labels}}]).secrets
        assert secret["Labels"] == {LABEL_STACK: "shop", specs.LABEL_CONTENT: "abc"}

    @pytest.mark.parametrize(
        ("changes", "kept"),
        [
            ({}, None),
            ({"IPAM": None}, None),
            (
                {"Labels": {LABEL_STACK: "shop", specs.LABEL_ADDRESSES: "asked"}},
                {"Config": [{"Subnet": "10.0.3.0/24", "Gateway": "10.0.3.1"}]},
            ),
            (
                {"IPAM": {"Config": [{"Subnet": "172.30.0.0/24"}]}},
                {"Config": [{"Subnet": "172.30.0.0/24"}]},
            ),
            ({"IPAM": {"Driver": "mine", "Config": None}}, {"Driver": "mine"}),
        ],
        ids=["assigned", "none", "asked through warmd", "asked: not the swarm's pool", "another driver"],
    )
    def test_addresses_stay_where_they_were_asked_for(
        self, changes: dict[str, Any], kept: Json | None
    ) -> None:
        (network,) = read_back(networks=[seen_network(**changes)]).networks
        assert network.get("IPAM") == kept

    def test_a_network_is_what_makes_it_again(self) -> None:
        (network,) = read_back(networks=[SEEN_NETWORK]).networks
        assert network == {
            "Name": "shop_inner",
            "Driver": "overlay",
            "Internal": True,
            "Options": {"encrypted": ""},
            "Labels": {LABEL_STACK: "shop"},
        }
        (bare,) = read_back(networks=[seen_network(Options=None, ConfigFrom={"Network": "base"})]).networks
        assert "Options" not in bare
        assert bare["ConfigFrom"] == {"Network": "base"}


class TestRecorded:
    def test_posts_become_a_sorted_bundle(self) -> None:
        posts: list[tuple[str, Json]] = [
            (
                "networks",
                {"Name": "shop_b", "CheckDuplicate": True, "Scope": "", "IPAM": None, "Driver": "overlay"},
            ),
            ("networks", {"Name": "shop_a", "Driver": "overlay", "Options": {"encrypted": ""}}),
            ("secrets", {"Name": "shop_s", "Labels": {}, "Data": data("hidden")}),
            ("configs", {"Name": "shop_c", "Data": data("shown")}),
            ("services", spec(UpdateConfig={"Parallelism": 2, "FailureAction": "rollback"})),
        ]
        made = specs.recorded(posts)
        assert made.networks == (
            {"Name": "shop_a", "Driver": "overlay", "Options": {"encrypted": ""}},
            {"Name": "shop_b", "Driver": "overlay"},
        )
        assert made.services[0]["UpdateConfig"] == {"Parallelism": 2, "FailureAction": "pause"}
        assert made.secrets[0]["Labels"][specs.LABEL_CONTENT]
        assert made.configs[0]["Data"] == data("shown")

    def test_failure_action_is_pause_except_for_jobs_which_have_none(self) -> None:
        assert specs.careful(spec())["UpdateConfig"] == {"Parallelism": 1, "FailureAction": "pause"}
        job = spec(Mode={"GlobalJob": {}})
        assert specs.careful(job) == job


class TestSecretsMark:
    def test_tells_contents_and_names_apart_and_is_not_their_hash(self) -> None:
        marks = {
            specs.marked({"Name": name, "Data": data(text)})["Labels"][specs.LABEL_CONTENT]
            for name in ("a", "b")
            for text in ("one", "two")
        }
        assert len(marks) == 4
        again = specs.marked({"Name": "a", "Labels": {"x": "y"}, "Data": data("one")})
        assert again["Labels"]["x"] == "y"
        assert again["Labels"][specs.LABEL_CONTENT] in marks

    def test_needs_the_content(self) -> None:
        assert specs.marked({"Name": "a"}) == {"Name": "a"}


def test_pinning_keeps_the_tag_and_unpinning_takes_the_digest_off() -> None:
    plain = bundle(spec(), spec(name="shop_db", image="db:2@sha256:old"))
    by_digest = specs.pinned(plain, {"app:1.0": "app@sha256:aaa", "db:2@sha256:old": "db@sha256:old"})
    assert by_digest.images == {"shop_app": "app:1.0@sha256:aaa", "shop_db": "db:2@sha256:old"}
    assert specs.unpinned(by_digest).images == {"shop_app": "app:1.0", "shop_db": "db:2"}


def test_pinning_leaves_an_image_that_came_from_no_registry_as_it_is() -> None:
    plain = bundle(spec(), spec(name="shop_db", image="db:2@sha256:old"))
    known = {"app:1.0": "app:1.0", "db:2@sha256:old": "db:2"}
    assert specs.pinned(plain, known) == plain
    half = specs.pinned(plain, known | {"app:1.0": "app@sha256:aaa"})
    assert half.images == {"shop_app": "app:1.0@sha256:aaa", "shop_db": "db:2@sha256:old"}


@pytest.mark.parametrize(
    ("mount", "labels"),
    [
        (
            {"Type": "volume", "Source": "shop_data", "VolumeOptions": {"Labels": {"keep": "yes"}}},
            {"keep": "yes"},
        ),
        ({"Type": "volume", "Source": "shop_data", "VolumeOptions": {}}, {}),
        ({"Type": "volume", "Source": "shop_data"}, {}),
        ({"Type": "volume", "Source": "shop_other", "VolumeOptions": {"Labels": {"keep": "yes"}}}, {}),
        ({"Type": "bind", "Source": "shop_data", "VolumeOptions": {"Labels": {"keep": "yes"}}}, {}),
    ],
    ids=["labels", "options without labels", "no options", "another volume", "a bind of that name"],
)
def test_a_volume_gets_the_labels_of_its_mount(mount: Json, labels: dict[str, str]) -> None:
    services = spec(name="shop_db"), spec(container={"Mounts": [{**mount, "Target": "/data"}]})
    assert specs.volume_labels(bundle(*services), "shop_data") == labels


def test_references_tell_who_uses_what() -> None:
    both = bundle(
        spec(
            task={"Networks": [{"Target": "net"}]},
            container={
                "Configs": [{"ConfigName": "c"}, {"ConfigName": "c"}],
                "Secrets": [{"SecretName": "s"}],
            },
        ),
        spec(name="shop_db", task={"Networks": [{"Target": "net"}]}),
    )
    assert specs.references(both, "networks") == {"net": ["shop_app", "shop_db"]}
    assert specs.references(both, "configs") == {"c": ["shop_app"]}
    assert specs.references(both, "secrets") == {"s": ["shop_app"]}


class TestMounts:
    @staticmethod
    def of(*mounts: Json, declared: tuple[str, ...] = ()) -> tuple[Mount, ...]:
        images: dict[str, Json] = {"app:1.0": {"Volumes": {path: {} for path in declared}}}
        return specs.mounts([spec(container={"Mounts": list(mounts)})], images)

    def test_of_every_kind(self) -> None:
        options = {"type": "nfs", "device": ":/x"}
        driver = {"DriverConfig": {"Name": "local", "Options": options}}
        assert self.of(
            {"Type": "volume", "Source": "data", "Target": "/data"},
            {"Type": "volume", "Source": "nfs", "Target": "/nfs", "VolumeOptions": driver},
            {"Type": "volume", "Target": "/nameless"},
            {"Type": "bind", "Source": "/var/run/docker.sock", "Target": "/docker.sock"},
            {"Type": "bind", "Source": "/etc", "Target": "/etc", "ReadOnly": True},
            {"Type": "volume", "Source": "data", "Target": "/again", "ReadOnly": True},
            {"Type": "tmpfs", "Target": "/tmp"},
            {"Type": "npipe", "Source": "x", "Target": "y"},
        ) == (
            Mount("shop_app", "volume", "data", "/data"),
            Mount("shop_app", "volume", "nfs", "/nfs", options=options),
            Mount("shop_app", "anonymous", "", "/nameless"),
            Mount("shop_app", "bind", "/var/run/docker.sock", "/docker.sock"),
        )

    def test_what_an_image_declares_is_anonymous_unless_covered(self) -> None:
        covers = (
            {"Type": "tmpfs", "Target": "/a/"},
            {"Type": "bind", "Source": "/", "Target": "/b", "ReadOnly": True},
        )
        assert self.of(*covers, declared=("/a", "/b", "/c/")) == (Mount("shop_app", "anonymous", "", "/c/"),)


@pytest.mark.parametrize(("given", "seconds"), [(None, 10.0), (0, 0.0), (90 * SECOND, 90.0)])
def test_grace_is_ten_seconds_unless_said(given: int | None, seconds: float) -> None:
    assert specs.grace(spec(container={"StopGracePeriod": given})) == seconds


def lines(old: Bundle, new: Bundle) -> list[str]:
    return [str(change) for change in diff(old, new)]


class TestDiff:
    def test_an_image_is_said_once(self) -> None:
        old, new = (
            spec(image=f"app:{tag}", Labels={LABEL_STACK: "shop", "com.docker.stack.image": f"app:{tag}"})
            for tag in ("1.0", "1.1")
        )
        assert lines(bundle(old), bundle(new)) == ["app: image 1.0 -> 1.1"]

    def test_reads_like_what_a_person_changed(self) -> None:
        old = spec(
            container={
                "Env": ["FOO=1", "GONE=x", "BARE"],
                "Args": ["serve", "--port=80"],
                "Mounts": [{"Type": "volume", "Source": "shop_data", "Target": "/data"}],
                "Configs": [{"ConfigName": "shop_c1", "File": {"Name": "/c", "Mode": 292}}],
                "Secrets": [{"SecretName": "shop_s1", "File": {"Name": "s"}}],
            },
            task={"Networks": [{"Target": "inner", "Aliases": ["app"]}]},
            EndpointSpec={"Ports": [{"TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}]},
        )
        new = spec(
            image="app:1.1",
            container={
                "Env": ["FOO=2", "NEW=y", "BARE=z"],
                "Args": ["serve", "--port=81"],
                "StopGracePeriod": 30 * SECOND,
                "Configs": [{"ConfigName": "shop_c2", "File": {"Name": "/c", "Mode": 292}}],
                "Secrets": [{"SecretName": "shop_s2"}],
            },
            task={"Networks": [{"Target": "outer"}], "Placement": {"Constraints": ["b==1", "a==1"]}},
            EndpointSpec={
                "Mode": "dnsrr",
                "Ports": [{"TargetPort": 80, "PublishedPort": 8081, "PublishMode": "host"}],
            },
            Mode={"Replicated": {"Replicas": 2}},
            Labels={LABEL_STACK: "shop", "shown": "yes"},
        )
        assert lines(bundle(old), bundle(new)) == [
            "app: image 1.0 -> 1.1",
            "app: replicas 1 -> 2",
            "app: Endpoint.Mode added: dnsrr",
            "app: Placement.Constraints added: a==1 b==1",
            "app: StopGracePeriod added: 30000000000",
            "app: command serve --port=80 -> serve --port=81",
            "app: config shop_c1 removed: Mode=292 Name=/c",
            "app: config shop_c2 added: Mode=292 Name=/c",
            "app: env BARE (unset) -> z",
            "app: env FOO 1 -> 2",
            "app: env GONE removed",
            "app: env NEW added: y",
            "app: label shown added: yes",
            "app: mount /data removed: Source=shop_data Type=volume",
            "app: network inner removed: app",
            "app: network outer added: joined",
            "app: port 80/tcp PublishMode=host PublishedPort=8080 TargetPort=80"
            " -> PublishMode=host PublishedPort=8081 TargetPort=80",
            "app: secret shop_s1 removed: Name=s",
            "app: secret shop_s2 added",
        ]

    @pytest.mark.parametrize(
        ("old", "new", "line"),
        [
            ("reg:5000/app", "reg:5000/app:2", "app: image reg:5000/app -> reg:5000/app:2"),
            ("a/app:1", "b/app:2", "app: image a/app:1 -> b/app:2"),
            ("app:1@sha256:aaa", "app:2@sha256:bbb", "app: image 1 -> 2"),
            (
                "app:1@sha256:0123456789abcdef",
                "app:1@sha256:fedcba9876543210",
                "app: image app:1@sha256:0123456789ab -> app:1@sha256:fedcba987654",
            ),
            ("app:1", "app:1@sha256:fedcba98", "app: image app:1@any digest -> app:1@sha256:fedcba98"),
        ],
        ids=["untagged", "repository", "tag of pinned", "digest", "pinned"],
    )
    def test_images(self, old: str, new: str, line: str) -> None:
        assert lines(bundle(spec(image=old)), bundle(spec(image=new))) == [line]

    def test_secrets_are_never_shown(self) -> None:
        old, new = (
            spec(
                container={
                    "Env": [
                        f"DB_PASSWORD={s}",
                        f"API_KEY={s}",
                        f"DSN=pg://me:{s}@db/x",
                        f"DATABASE=pg://me:{s}@db/{n}",
                    ],
                    "Args": ["run", f"--admin-token={s}", f"--secret {s}", f"--n={n}"],
                    "Labels": {"traefik.basicauth": s},
                },
                Labels={LABEL_STACK: "shop", "some.token": s},
            )
            for s, n in (("hunter1", 1), ("hunter2", 2))
        )
        shown = lines(bundle(old), bundle(new))
        assert "hunter" not in "\n".join(shown)
        assert "app: env DB_PASSWORD changed" in shown
        assert "app: env DATABASE pg://me:***@db/1 -> pg://me:***@db/2" in shown
        command = "run --admin-token=*** --secret *** --n="
        assert f"app: command {command}1 -> {command}2" in shown
        assert len(shown) == 7

    def test_what_is_known_to_be_secret_is_hidden_wherever_it_stands_and_what_was_there_before(self) -> None:
        old, new = (
            spec(
                container={
                    "Env": [f"LICENSE={s}", f"TITLE=a {s}", f"OWN={n}"],
                    "Args": ["run", "x" * 195, s],
                    "Hosts": [f"10.0.0.1 {s}"],
                },
                Labels={LABEL_STACK: "shop", f"by.{s}": n},
            )
            for s, n in (("before", "1"), ("now-long", "2"))
        )
        changes = diff(bundle(old), bundle(new), hides=("now-long", "now", ""))
        shown = [str(change) for change in changes]
        assert not any("before" in line or "now" in line for line in shown if "by." not in line)
        assert "app: env LICENSE changed" in shown
        assert "app: env TITLE *** -> a ***" in shown
        assert "app: env OWN 1 -> 2" in shown
        assert "app: label by.*** added: 2" in shown
        assert f"app: command *** -> run {'x' * 195} …" in shown, "not a part of it where it is cut"

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ('invalid size: "correct-horse/battery"', 'invalid size: "***"'),
            ('parsing "correct-horse": invalid', 'parsing "***": invalid'),
            ("correct-horse and battery", "*** and battery"),
            ("batt is a short part, correct one too", "batt is a short part, correct one too"),
            ("twice: correct-, t-horse/", "twice: ***, ***"),
            ("pin 4711, not 471", "pin ***, not 471"),
            ("nothing of it", "nothing of it"),
        ],
    )
    def test_a_message_has_neither_a_hidden_value_nor_a_part_of_it_that_tells(
        self, text: str, shown: str
    ) -> None:
        assert mask(text, ("correct-horse/battery", "4711")) == shown

    def test_of_a_variable_that_went_only_the_name_is_shown(self) -> None:
        had = spec(container={"Env": ["LICENSE=before"]})
        assert lines(bundle(had), bundle(spec(container={"Env": []}))) == ["app: env LICENSE removed"]

    def test_what_differs_only_where_it_is_hidden_is_still_a_change(self) -> None:
        old, new = (spec(container={"Env": [f"URL=x://a:{s}@b"]}) for s in ("one", "two"))
        assert lines(bundle(old), bundle(new)) == ["app: env URL changed (x://a:***@b)"]

    def test_long_values_are_cut(self) -> None:
        (line,) = lines(bundle(spec()), bundle(spec(container={"Env": [f"A={'x' * 1000}"]})))
        assert len(line) < 250

    def test_whole_objects_come_and_go(self) -> None:
        network = {"Name": "shop_inner", "Driver": "overlay", "Labels": {LABEL_STACK: "shop"}}
        old = bundle(spec(), networks=(network,))
        new = bundle(spec(name="shop_db", image="db:2"), networks=({**network, "Attachable": True},))
        assert lines(old, new) == [
            "service app removed: app:1.0",
            "service db added: db:2",
            "network inner: Attachable added: True",
        ]
        assert lines(new, bundle(spec(name="shop_db", image="db:2"))) == ["network inner removed"]

    def test_contents_are_compared_and_not_shown(self) -> None:
        def with_content(text: str) -> Bundle:
            config = {"Name": "c", "Data": data(text)}
            return bundle(configs=(config,), secrets=(specs.marked({"Name": "s", "Data": data(text)}),))

        assert lines(with_content("one"), with_content("two")) == [
            "config c: content changed",
            "secret s: content changed",
        ]
        assert lines(with_content("one"), with_content("one")) == []

    def test_of_a_secret_without_a_mark_nothing_is_known(self) -> None:
        unknown, known = {"Name": "s"}, specs.marked({"Name": "s", "Data": data("x")})
        assert lines(bundle(secrets=(unknown,)), bundle(secrets=(known,))) == []
