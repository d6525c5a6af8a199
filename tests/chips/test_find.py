"""Finding chips on made-up machines: a folder for /proc and /sys, scripts for vendors' tools."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from bicameral.chips.find import TOOLS, Look, chips, here, look, missing
from bicameral.chips.probes.cpu import linux
from bicameral.chips.probes.tool import Host

H200 = "0, NVIDIA H200, 143771, 140000, 580.1, 700.00, 00000000:1B:00.0"
ARM = "processor : 0\nFeatures : fp asimd i8mm bf16 sve\nCPU implementer : 0x41\nCPU part : 0xd4f"


class Machine:
    """A root folder and a folder of tools."""

    def __init__(self, at: Path) -> None:
        self.root, self.bin = at / "root", at / "bin"
        self.bin.mkdir()
        self.put("proc/cpuinfo", "processor : 0\nvendor_id : GenuineIntel\nmodel name : A CPU\n")
        self.host = Host(root=self.root, path=f"{self.bin}:/bin:/usr/bin", system="linux")

    def put(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def tool(self, name: str, script: str) -> None:
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        file.chmod(0o755)

    def pci(self, bus: str, vendor: str, kind: str) -> None:
        for name, text in (("vendor", vendor), ("class", kind), ("device", "0x7d1d")):
            self.put(f"sys/bus/pci/devices/{bus}/{name}", text)

    def look(self) -> Look:
        return look(self.host)


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return Machine(tmp_path)


def names(seen: Look) -> list[str]:
    return [found.device.name for found in seen.accelerators]


def why(seen: Look, tool: str) -> str:
    return next(blind.why for blind in seen.blind if blind.tool == tool)


def test_a_tool_that_is_not_installed_is_no_error(machine) -> None:
    seen = machine.look()
    assert seen.accelerators == ()
    assert [b.tool for b in seen.blind if b.absent] == [b.tool for b in seen.blind]
    assert len(seen.blind) == sum(tool.system == "linux" for group in TOOLS for tool in group)
    assert why(seen, "nvidia-smi") == "nvidia-smi is not installed"


def test_a_found_chip_meets_its_row_of_the_catalogue(machine) -> None:
    machine.tool("nvidia-smi", f"echo '{H200}'")
    (found,) = machine.look().accelerators
    assert found.chip is not None
    assert (found.chip.id, found.device.told_by, found.parts) == ("h200-sxm", "nvidia-smi", 1)
    assert found.datasheet is not None
    assert found.datasheet.value == 4800
    assert (found.measured, found.ratio) == (None, None)


def test_dies_share_the_bandwidth_of_their_card(machine) -> None:
    line = (
        "echo '| {n} Ascend910 | OK | - 34 0 / 0 |\n| 0 {n} | 0000:9{n}:00.0 | 0 0 / 0 9 / 65536 |'"
    )
    machine.tool("npu-smi", "\n".join(line.format(n=n) for n in range(2)))
    found = machine.look().accelerators
    assert [f.datasheet and f.datasheet.value for f in found] == [1600, 1600]


def test_a_tool_that_fails_says_so_with_its_last_words(machine) -> None:
    machine.tool("nvidia-smi", "echo 'NVIDIA-SMI has failed.\n'; echo; exit 9")
    machine.tool("npu-smi", "echo 'starting'; echo 'dcmi broke' >&2; exit 1")
    machine.tool("cnmon", "echo 'Illegal instruction'")
    machine.tool("ixsmi", "echo what")
    (machine.bin / "hy-smi").write_bytes(b"\x00")
    (machine.bin / "hy-smi").chmod(0o755)
    machine.tool("mx-smi", "printf 'one\\033[31m'; exit 2")
    seen = machine.look()
    assert why(seen, "nvidia-smi") == "nvidia-smi failed (exit 9): NVIDIA-SMI has failed."
    assert why(seen, "npu-smi") == "npu-smi failed (exit 1): dcmi broke"
    assert "form that is not known (it was not read): Illegal instruction" in why(seen, "cnmon")
    assert "without a sample" in why(seen, "ixsmi")
    assert why(seen, "hy-smi").startswith("hy-smi cannot be started")
    assert "\033" not in why(seen, "mx-smi")
    assert seen.found[0].device.name == "A CPU"


def test_a_tool_that_hangs_is_killed_with_its_children(machine) -> None:
    machine.host = replace(machine.host, seconds=0.3)
    machine.tool("nvidia-smi", "echo waiting for the driver; sleep 60")
    said = why(machine.look(), "nvidia-smi")
    assert said == "nvidia-smi did not answer within 0.3 s: waiting for the driver"


def test_a_tool_whose_child_went_off_with_its_output_is_left(machine) -> None:
    machine.host = replace(machine.host, seconds=0.3)
    machine.tool("nvidia-smi", "setsid sleep 4 & echo done")
    assert why(machine.look(), "nvidia-smi").startswith("nvidia-smi did not answer within 0.3 s")


def test_what_a_failing_tool_told_still_counts(machine) -> None:
    machine.tool("nvidia-smi", f"echo '{H200}'; echo 'Unable to find GPU 1: lost' >&2; exit 15")
    seen = machine.look()
    assert names(seen) == ["NVIDIA H200"]
    assert why(seen, "nvidia-smi").endswith("(exit 15): Unable to find GPU 1: lost")


def test_a_vanished_chip_is_not_remembered(machine) -> None:
    machine.tool("nvidia-smi", f"echo '{H200}'")
    before = machine.look().found
    machine.tool("nvidia-smi", "echo 'No devices were found'")
    ((gone, because),) = missing(before, machine.look())
    assert (gone.device.name, because) == (
        "NVIDIA H200",
        "nvidia-smi does not tell of it any more",
    )
    machine.tool("nvidia-smi", "echo 'GPU is lost' >&2; exit 15")
    ((_, because),) = missing(before, machine.look())
    assert because == "nvidia-smi failed (exit 15): GPU is lost"
    assert missing(before[:1], machine.look()) == ()


def test_the_next_tool_of_a_vendor_is_asked_where_the_first_told_nothing(machine) -> None:
    machine.tool("rocm-smi", """echo '{"card0": {"Card Series": "AMD Instinct MI300X"}}'""")
    seen = machine.look()
    assert names(seen) == ["AMD Instinct MI300X"]
    assert "amd-smi" not in [blind.tool for blind in seen.blind]


def test_two_tools_that_tell_of_one_card_find_it_once(machine) -> None:
    for tool in ("rocm-smi", "hy-smi"):
        machine.tool(tool, """echo '{"card0": {"Card Series": "BW", "PCI Bus": "0000:09:00.0"}}'""")
    assert names(machine.look()) == ["BW"]


def test_the_bus_shows_what_no_tool_told_of(machine) -> None:
    machine.tool("nvidia-smi", f"echo '{H200}'")
    machine.pci("0000:1b:00.0", "0x10de", "0x030200")
    machine.pci("0000:2b:00.0", "0x10de", "0x030200")
    machine.pci("0000:00:0b.0", "0x8086", "0x120000")
    machine.pci("0000:00:1f.0", "0x8086", "0x060100")
    machine.pci("0000:05:00.0", "0x1ac1", "0x088000")
    machine.pci("0000:1b:00.1", "0x10de", "0x030200")
    machine.put("sys/bus/pci/devices/0000:1b:00.1/physfn/vendor", "0x10de")
    machine.pci("0000:c5:00.1", "0x1022", "0x118000")
    machine.pci("0000:c6:00.1", "0x1022", "0x118000")
    machine.put("sys/bus/pci/devices/0000:c6:00.1/accel/accel0/dev", "261:0")
    machine.put("sys/bus/pci/devices/0000:2b:00.0/mem_info_vram_total", "8000000000")
    seen = machine.look()
    assert names(seen) == [
        "NVIDIA H200",
        "Intel NPU 7d1d",
        "Google Coral NPU 7d1d",
        "NVIDIA GPU 7d1d",
        "AMD NPU 7d1d",
    ]
    assert seen.accelerators[-2].device.memory_gb == 8
    told = [blind.why for blind in seen.blind if blind.tool == "/sys"]
    assert "intel seen on the PCI bus that no tool told of; no tool of it" in told[0]
    assert "1 of nvidia seen on the PCI bus that no tool told of: install nvidia-smi" in told[2]


def test_what_narrows_a_program_is_told(machine, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine.look().narrowed == {"CUDA_VISIBLE_DEVICES": "1"}


def test_a_container_has_what_its_cgroup_and_affinity_grant(machine) -> None:
    machine.put("proc/meminfo", "MemTotal: 64000000 kB\nMemAvailable: 60000000 kB")
    machine.put("proc/self/cgroup", "0::/pod/box")
    machine.put("sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw", "205000000")
    machine.put("sys/class/powercap/intel-rapl:0:0/constraint_0_power_limit_uw", "1")
    machine.put("sys/fs/cgroup/pod/box/cpu.max", "max 100000")
    machine.put("sys/fs/cgroup/pod/cpu.max", "150000 100000")
    machine.put("sys/fs/cgroup/pod/memory.max", "8000000000")
    machine.put("sys/devices/system/cpu/online", "0-7")
    for n in range(8):
        at = f"sys/devices/system/cpu/cpu{n}"
        machine.put(f"{at}/topology/physical_package_id", str(n // 4))
        machine.put(f"{at}/topology/core_id", str(n // 2))
        machine.put(f"{at}/cache/index3/level", "3")
        machine.put(f"{at}/cache/index3/type", "Unified")
        machine.put(f"{at}/cache/index3/size", "1024K")
        machine.put(f"{at}/cache/index3/shared_cpu_list", f"{n // 4 * 4}-{n // 4 * 4 + 3}")
    device = linux(machine.host, allowed=(0, 1, 2, 9))
    assert device.cpu is not None
    assert (device.cpu.sockets, device.cpu.cores, device.cpu.threads) == (2, 4, 8)
    assert (device.units, device.cpu.may_use, device.memory_gb) == (2, 1.5, 8.0)
    assert (device.cpu.limit_gb, device.cpu.last_cache) == (8.0, 2**20)
    assert device.power_w == 205
    assert linux(machine.host, allowed=(0, 7)).cpu.last_cache == 2 * 2**20


def test_old_cgroups_and_their_way_to_say_no_limit(machine) -> None:
    machine.put("proc/self/cgroup", "5:memory:/a\n1:cpu,cpuacct:/a\n0::/")
    machine.put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712")
    machine.put("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "50000")
    machine.put("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000")
    device = linux(machine.host, allowed=(0,))
    assert device.cpu is not None
    assert (device.cpu.may_use, device.cpu.limit_gb) == (0.5, None)


def test_an_arm_kernel_tells_its_cpu_in_numbers(machine) -> None:
    machine.put("proc/cpuinfo", ARM)
    device = linux(machine.host, allowed=(0,))
    assert device.name == "ARM Neoverse V2"
    assert device.cpu is not None
    assert device.cpu.isa == ("neon", "i8mm", "bf16", "sve")


def test_a_slice_of_a_machine_is_not_the_catalogues_machine(machine) -> None:
    machine.put("proc/cpuinfo", "processor : 0\nmodel name : Intel(R) Xeon(R) 6980P\n")
    found = machine.look().found[0]
    assert found.chip is None
    assert "xeon-6980p-2s of the catalogue is a whole machine" in found.note


def test_a_mac_and_a_system_that_is_not_known(machine) -> None:
    machine.tool("sysctl", "echo 'machdep.cpu.brand_string: Apple M3 Ultra'; echo 'hw.ncpu: 28'")
    machine.tool(
        "system_profiler", """echo '{"SPDisplaysDataType": [{"_name": "Apple M3 Ultra"}]}'"""
    )
    seen = look(replace(machine.host, system="darwin"))
    assert [f.chip and f.chip.id for f in seen.found] == ["m3-ultra", "m3-ultra"]
    seen = look(replace(machine.host, system="plan9"))
    assert seen.found == ()
    assert why(seen, "cpu") == "the CPU cannot be looked at on plan9, only on linux and darwin"


def test_this_machine_has_a_cpu(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpu = here()[0].device
    assert cpu.cpu is not None
    assert cpu.name
    assert 0 < cpu.cpu.may_use <= cpu.cpu.threads
    assert cpu.memory_gb is not None
    assert cpu.memory_gb > 0
    assert len(chips()) <= len(here())
