"""Pure decisions: standard library only; time comes in as `now`, chance as a seeded generator."""
