"""This machine, as described in saved results."""

from singlepass_backends.base import Target
from singlepass_backends.machine.facts import Machine
from singlepass_backends.models.offer import machine_from

from singlepass.cli.doctor import probe


def this_machine() -> dict[str, str | int | float]:
    """Probe this machine and describe what measurements depend on."""
    found, _ = probe(Target())
    return described(machine_from(found.get("machine")))


def described(machine: Machine | None) -> dict[str, str | int | float]:
    """What measurements depend on, of a machine that was probed already; empty if it is unknown."""
    if machine is None:
        return {}
    cpu = machine.apple.name if machine.apple else machine.llama.cpu if machine.llama else ""
    devices = machine.llama.devices if machine.llama else ()
    return {
        "system": machine.system,
        "architecture": machine.architecture,
        "cpu": cpu,
        "cores": machine.n_cores,
        "ram_gib": round(machine.ram_bytes / 2**30, 1),
        "gpus": ", ".join(device.name for device in devices),
    }
