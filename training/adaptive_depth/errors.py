"""The base of the errors that the command line reports in one line, without a trace."""


class ToolkitError(Exception):
    """Some input is at fault; the message names it and says why."""
