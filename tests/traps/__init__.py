"""What the swarm does that an updater must not believe, and what people do while one is at work."""
