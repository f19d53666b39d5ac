"""What the scripts raise when they cannot go on."""


class InputError(Exception):
    """The user's mistake or the system's refusal, as one line that says what to change."""
