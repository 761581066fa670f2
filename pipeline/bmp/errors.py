"""The error that means wrong use; it knows nothing of where it is shown."""


class UserError(ValueError):
    """What the user asked for cannot be done as asked: one line that says what was wrong and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
