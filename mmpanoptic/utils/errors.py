"""Errors that are the user's to mend: the tools print them as one line, without a traceback."""


class UserError(Exception):
    """Something about the user's files or arguments is wrong; the message names what, where and the way out."""


class DatasetError(UserError):
    """Images or annotations do not fit together; the message names the file, the id and the remedy."""
