"""Rules only: no await, no clock, no random, no logging, no database. `now` is an argument."""
