"""Training loops: generators that yield records; whoever calls them logs, saves and stops."""
