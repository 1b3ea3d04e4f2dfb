"""Memory of the running process, for code that tests run in a process of its own. Linux."""


def _status(name: str) -> int:
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f'{name}:'))


def resident_bytes() -> int:
    """Physical memory in use."""
    return _status('VmRSS')


def peak_bytes() -> int:
    """The most physical memory that was in use since the program started.

    Not what getrusage calls the maximum: that is inherited from the process that started the program.
    """
    return _status('VmHWM')
