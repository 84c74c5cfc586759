# SPDX-License-Identifier: Apache-2.0
"""Devices as device maps name them: `torch.device` where torch is loaded, else `Device`, which is like it."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, Union

DEFAULT_TYPE = "cuda"
"""What a bare index means: `1` is `cuda:1`."""


class Device:
    """A place for tensors: its `type`, such as "cpu" or "cuda", and its `index`, or None.

    Args:
        device: "cpu", "cuda:1", an index (an accelerator's), or another device.

    Raises:
        RuntimeError: the text is not a device, or the index is negative.
        TypeError: it is neither text, index nor device.
    """

    __slots__ = ("type", "index")

    type: str
    index: Optional[int]

    def __init__(self, device: Any) -> None:
        if isinstance(device, int) and not isinstance(device, bool):
            self.type, self.index = DEFAULT_TYPE, device
        elif isinstance(device, str):
            self.type, self.index = self._parse(device)
        elif hasattr(device, "type") and hasattr(device, "index"):
            self.type, self.index = device.type, device.index
        else:
            raise TypeError(f"a device is an int, a str or a device, not {type(device).__name__}: {device!r}")
        if self.index is not None and self.index < 0:
            raise RuntimeError(f"Device index must not be negative, got {self.index}")

    @staticmethod
    def _parse(text: str) -> tuple[str, Optional[int]]:
        kind, colon, index = text.partition(":")
        if not kind.isidentifier() or (colon and not index.lstrip("-").isdigit()):
            raise RuntimeError(f"Invalid device string: '{text}': expected a type, or type:index, as in 'cuda:1'")
        return kind, int(index) if colon else None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Device):
            return NotImplemented
        return (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Device, (str(self),))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device({str(self)!r})"


DeviceLike = Union[int, str, Device]
"""What may be given where a device is asked for (or a `torch.device`)."""


def to_device(device: DeviceLike) -> Any:
    """`device` as a `torch.device` where torch is loaded, else as a `Device`.

    Raises:
        RuntimeError: it is not a device.
        TypeError: it has the wrong type.
    """
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "device"):
        return Device(device)
    return torch.device(str(device) if isinstance(device, Device) else device)


def to_accelerator(device: DeviceLike) -> Any:
    """The same, of an accelerator.

    Raises:
        ValueError: it is none.
    """
    accelerator = to_device(device)
    if accelerator.type != DEFAULT_TYPE:
        raise ValueError(f"`set_devices` expect a list of CUDA devices, but got device type {accelerator.type}.")
    return accelerator


def to_device_map(device_map: Mapping[DeviceLike, DeviceLike]) -> dict[Any, Any]:
    """A map from devices here to devices there, which has to be 1-to-1.

    Raises:
        ValueError: two devices are mapped to one.
    """
    result: dict[Any, Any] = {}
    sources: dict[Any, Any] = {}
    for key, value in device_map.items():
        source, target = to_device(key), to_device(value)
        if target in sources:
            raise ValueError(
                f"`device_map` only supports 1-to-1 mapping, trying to map {source} and {sources[target]} to {target}"
            )
        result[source] = target
        sources[target] = source
    return result


def to_devices(devices: Iterable[DeviceLike]) -> list[Any]:
    """A list of accelerators.

    Raises:
        ValueError: one of them is none.
    """
    return [to_accelerator(device) for device in devices]


def to_pair(device: Any) -> tuple[str, int]:
    """A device as the extension takes it: its type and index (0 for the only one)."""
    return device.type, device.index or 0


def from_pair(pair: tuple[str, int]) -> Any:
    """The device that the extension names by type and index."""
    kind, index = pair
    return to_device("cpu" if kind == "cpu" else f"{kind}:{index}")


def device_count() -> int:
    """How many accelerators this process sees: 0 without torch."""
    torch = sys.modules.get("torch")
    return torch.cuda.device_count() if torch is not None and hasattr(torch, "cuda") else 0


# ---- device maps of a whole group ----


def are_there(devices: Iterable[Any], count: int) -> bool:
    """Whether a worker with `count` accelerators has all of the devices."""
    pairs = map(to_pair, devices)
    return all(kind == "cpu" or (kind == DEFAULT_TYPE and 0 <= index < count) for kind, index in pairs)


def check_maps(
    names: Sequence[str],
    counts: Mapping[str, int],
    maps: Mapping[str, Mapping[str, Mapping[Any, Any]]],
    devices: Mapping[str, Sequence[Any]],
    is_static_group: bool = True,
) -> None:
    """Checks that the device maps of a group's workers fit together; the extension's agents check theirs in joining.

    Args:
        names: of all workers.
        counts: how many accelerators each of them has.
        maps: their device maps, by the name of the one and then of the other worker.
        devices: those that each of them says that it uses; empty: it does not say.
        is_static_group: a map towards a worker that there is not is an error.

    Raises:
        ValueError: they do not. All workers find the same error first.
    """
    for name in names:
        used, count = devices[name], counts[name]
        if len(set(used)) != len(used):
            raise ValueError(f"Node {name} has duplicated devices\ndevices = {used}")
        if not are_there(used, count):
            raise ValueError(
                f"Node {name} has devices with invalid indices\ndevices = {used}\ndevice count = {count}"
            )
    for name in names:
        if is_static_group and not set(maps[name]) <= set(names):
            raise ValueError(
                f"Node {name} has invalid target node names in its device maps\n"
                f"device maps = {list(maps[name])}\nnode names = {list(names)}"
            )
        for target, pairs in maps[name].items():
            where = f"in its device map for {target}\ndevice map = {pairs}"
            if len(set(pairs.values())) != len(pairs):
                raise ValueError(f"Node {name} has duplicated target devices {where}")
            sides: list[tuple[str, str, Iterable[Any]]] = [("source", name, pairs.keys())]
            if target in counts:
                sides.append(("target", target, pairs.values()))
            for side, worker, mapped in sides:
                used, count = devices[worker], counts[worker]
                if used and not set(mapped) <= set(used):
                    raise ValueError(f"Node {name} has unexpected {side} devices {where}\ndevices = {used}")
                if not used and not are_there(mapped, count):
                    raise ValueError(
                        f"Node {name} has {side} devices with invalid indices {where}\ndevice count = {count}"
                    )


def reverse_maps(
    name: str, names: Iterable[str], maps: Mapping[str, Mapping[str, Mapping[Any, Any]]]
) -> dict[str, dict[Any, Any]]:
    """For each worker that has a map towards `name`: from devices here to devices there."""
    return {
        worker: {target: source for source, target in maps[worker][name].items()}
        for worker in names
        if name in maps[worker]
    }


def used_devices(
    devices: Sequence[Any], maps: Mapping[str, Mapping[Any, Any]], reverse: Mapping[str, Mapping[Any, Any]]
) -> list[Any]:
    """The accelerators that a worker uses, by index: those that it says, else those here that its maps name."""
    if not devices:
        mapped = {device for side in (maps, reverse) for pairs in side.values() for device in pairs}
        devices = [device for device in mapped if device.type != "cpu"]
    return sorted(devices, key=to_pair)
