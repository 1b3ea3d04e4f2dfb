"""Errors that a user can mend; the tools print them as one line, without a traceback."""


class UserError(Exception):
    """Something about the user's files or arguments is wrong; the message names what, where and the way out.

    Args:
        message: One sentence in terms of Python arguments and config keys, whoever the caller is.
        argument: The caller's argument that mends it, if there is one; a command-line tool adds its flag.
    """

    def __init__(self, message: str = '', argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument

    def __reduce__(self) -> tuple:
        """Keep message and argument, so that the error passes from a data-loading worker to the main process."""
        return type(self), (*self.args, self.argument)


class DatasetError(UserError):
    """Images or annotations do not fit together; the message names the file, the id and the remedy."""


def one_line(error: Exception) -> str:
    """The message of an error on one line, without the traceback that a data-loading worker puts around it."""
    text = str(error)
    if text.startswith('Caught ') and 'Original Traceback' in text:
        text = text.rsplit(f'{type(error).__module__}.{type(error).__qualname__}: ', 1)[-1]
    return ' '.join(line.strip() for line in text.splitlines() if line.strip())
