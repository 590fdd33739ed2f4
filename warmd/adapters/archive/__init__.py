"""Snapshots as ``tar | zstd`` archives with a manifest: synchronous, used by the plugin and the façade.

::

    room.py       is there space, and can these volumes be copied at all
    capture.py    the copy, published atomically
    seal.py       the proof: everything read back and compared
    restore.py    extract beside, compare, then
    swap.py       put it in place, crash-safe, and quarantine what was there
    retention.py  lists, and what may go
    manifest.py   what a snapshot's folder holds     tree.py      one file of a volume, and walks
    durable.py    fsync, rename, remove              children.py  tar, zstd and friends

Every function that may take long has ``check``, called at least every 0.2 s: it raises to stop.
"""
