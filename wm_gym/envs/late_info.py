"""An `info` that is read from a device when somebody looks into it, and not before."""

from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class LateInfo(dict[str, Any]):
    """Filled at the first look; from then on a dictionary as any other."""

    def __init__(self, read: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._read: Callable[[], dict[str, Any]] | None = read

    def _filled(self) -> "LateInfo":
        if self._read is not None:
            dict.update(self, self._read())
            self._read = None
        return self

    def __getitem__(self, key: str) -> Any:
        return dict.__getitem__(self._filled(), key)

    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self._filled(), key)

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self._filled())

    def __len__(self) -> int:
        return dict.__len__(self._filled())

    def __eq__(self, other: object) -> bool:
        return dict.__eq__(self._filled(), other)

    def __ne__(self, other: object) -> bool:
        return dict.__ne__(self._filled(), other)

    __hash__ = None  # as no dictionary has one

    def __repr__(self) -> str:
        return dict.__repr__(self._filled())

    def __or__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]
        return dict(self._filled()) | other

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self.items()),)

    def __ior__(self, other: Any) -> "LateInfo":  # type: ignore[override]
        dict.update(self._filled(), other)
        return self

    def __setitem__(self, key: str, value: Any) -> None:
        dict.__setitem__(self._filled(), key, value)

    def __delitem__(self, key: str) -> None:
        dict.__delitem__(self._filled(), key)

    def __reversed__(self) -> Iterator[str]:
        return dict.__reversed__(self._filled())

    def pop(self, *args: Any) -> Any:
        return dict.pop(self._filled(), *args)

    def popitem(self) -> tuple[str, Any]:
        return dict.popitem(self._filled())

    def setdefault(self, key: str, default: Any = None) -> Any:
        return dict.setdefault(self._filled(), key, default)

    def update(self, *args: Any, **more: Any) -> None:
        dict.update(self._filled(), *args, **more)

    def clear(self) -> None:
        dict.clear(self._filled())

    def get(self, key: str, default: Any = None) -> Any:
        return dict.get(self._filled(), key, default)

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        return dict.keys(self._filled())

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        return dict.values(self._filled())

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        return dict.items(self._filled())

    def copy(self) -> dict[str, Any]:
        return dict(self.items())
