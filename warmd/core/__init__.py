"""The pure middle: no I/O, no clock, no randomness. Everything here can be tested as a truth table."""
