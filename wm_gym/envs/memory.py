"""Too many environments for the memory there is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_OUT_OF_MEMORY = re.compile("out of memory|allocate memory")


@contextmanager
def explain_memory(num_envs: int) -> Iterator[None]:
    """Of the many ways to say that memory ran out, one that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        raise MemoryError(
            f"there is not enough memory for {num_envs} environments at once: ask for fewer "
            f"({error})"
        ) from error
