"""The whole engine in one process, on virtual time, against whatever Hypothesis does to it."""
