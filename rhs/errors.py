"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """A mistake in the input or the parameters.

    Its text is one sentence that names the offending value and what would be accepted. A pipeline
    stage prints that sentence, without a traceback, and exits with status 1.
    """
