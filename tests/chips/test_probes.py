"""Readers of vendors' tools, over short samples of the form that each tool prints."""

from __future__ import annotations

import json

import pytest

from bicameral.chips.catalogue import shipped
from bicameral.chips.names import row
from bicameral.chips.probes import boxes, query, spoken
from bicameral.chips.probes.darwin import mac
from bicameral.chips.probes.device import Device, Unread

NVIDIA = """\
WARNING: infoROM is corrupted at gpu 0000:9B:00.0
0, NVIDIA H200, 143771, 140000, 580.1, 700.00, 00000000:1B:00.0
1, NVIDIA GB10, [N/A], [N/A], 580.1, [N/A], 0000000F:01:00.0
2, [GPU is lost], [N/A], [N/A], [N/A], [N/A], 00000000:2B:00.0
"""
NPU_OLD = """\
| npu-smi 23.0                     Version: 23.0                                                 |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B4               | OK            | 80.1        40                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          2000 / 32768         |
+===========================+===============+====================================================+
| 3     910B3               | Warning       | 90.0        41                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          40000/ 65536         |
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
| 3       0                 | 4711          | python                   | 37000                   |
"""
NPU_TWO = """\
| npu-smi 26.0                Version: 26.0                                                      |
| NPU   Name                | Health        | Power(W)             Temp(C)   Hugepages-Usage(page) |
| Chip  Phy-ID              | Bus-Id        | AICore(%)            Memory-Usage(MB) HBM-Usage(MB)  |
| 1     Ascend910           | OK            | 160.5                34         0    / 0             |
| 0     2                   | 0000:9D:00.0  | 0                    0    / 0   3000 / 65536         |
| 1     Ascend910           | OK            | -                    34         0    / 0             |
| 1     3                   | 0000:9F:00.0  | 0                    0    / 0   2000 / 65536         |
"""
CNMON_4 = """\
| CNMON v4.20.1                                                                |
| Card  VF  Name       Firmware | Inited        Driver | Util        Ecc-Error |
| Fan   Temp      Pwr:Usage/Cap |         Memory-Usage |         vMemory-Usage |
| 0     /   MLU370-X4    v1.1.0 | On           v4.20.1 | 0%          N/A       |
|  0%   30C         20 W/ 150 W |     0 MiB/ 23000 MiB | 10240 MiB/1048576 MiB |
"""
CNMON_5 = """\
| CNMON v5.10.1                                                 Driver v5.10.1 |
| Card  VF  Name       Firmware |               Bus-Id | Util        Ecc-Error |
| 0     /   MLU370-X8    v1.1.0 |         0000:3D:00.0 | 0%                N/A |
|  0%   30C        100 W/ 250 W |   100 MiB/ 46000 MiB | N/A           Default |
"""
MOORE = """\
    mthreads-gmi:2.3            Driver Version:3.3-server
ID   Name                 |PCIe                |%GPU  Mem
     Device Type   Perf   |Pcie Lane Width     |Temp  MPC Capable
+-------------------------------------------------------------------+
0    MTT S5000            |00000000:2a:00.0    |0%    10MiB(81920MiB)
     Physical      P0     |16x(16x)            |50C   YES
"""
METAX = """\
| MX-SMI 2.1                          Kernel Mode Driver Version: 2.15.1          |
| GPU         NAME                   | Bus-id              | GPU-Util             |
| Temp        Pwr:Usage/Cap          | Memory-Usage        | GPU-State            |
| 0           MetaX C550             | 0000:0f:00.0        | 0%                   |
| 29C         53W / 450W             | 800/65536 MiB       | Available            |
| 1           MXC500                 | 0000:10:00.0        | 0%                   |
| 29C         71W                    | 800/65536 MiB       |                      |
"""
CARD = {
    "Card Series": "AMD Instinct MI300X",
    "VRAM Total Memory (B)": "206141652992",
    "VRAM Total Used Memory (B)": "1000000000",
    "Max Graphics Package Power (W)": "750.0",
    "PCI Bus": "0000:83:00.0",
}
DCU = {
    "Card Series": "BW",
    "vram Total Memory (MiB)": "65520",
    "vram Total Used Memory (MiB)": "3",
    "PCI Bus": "0000:09:00.0 --> OAM ID: 1",
}
STATIC = {
    "gpu": 3,
    "asic": {"market_name": "AMD Instinct MI210", "num_compute_units": 104},
    "bus": {"bdf": "0000:83:00.0"},
    "limit": {"max_power": {"value": 300, "unit": "W"}},
    "vram": {"size": {"value": 65520, "unit": "MB"}},
    "driver": {"name": "amdgpu", "version": "6.1"},
}
ARC = {
    "device_id": 0,
    "device_type": "GPU",
    "device_function_type": "physical",
    "device_name": "Intel(R) Arc(TM) Pro B60 Graphics",
    "pci_bdf_address": "0000:03:00.0",
    "memory_physical_size_byte": "24385683456",
}
SYSCTL = """\
hw.physicalcpu: 10
hw.logicalcpu: 10
hw.memsize: 17179869184
hw.perflevel0.physicalcpu: 8
hw.perflevel0.l2cachesize: 12582912
hw.perflevel0.cpusperl2: 4
hw.optional.AdvSIMD: 1
hw.optional.arm.FEAT_BF16: 0
machdep.cpu.brand_string: Apple M1 Pro
"""


def rounded(device: Device) -> tuple[object, ...]:
    memory, free = (m and round(m, 1) for m in (device.memory_gb, device.free_gb))
    return device.name, device.index, memory, free, device.power_w, device.bus


def test_nvidia_smi_leaves_out_warnings_and_lost_gpus() -> None:
    one, two = query.nvidia(NVIDIA)
    assert rounded(one) == ("NVIDIA H200", 0, 150.8, 146.8, 700.0, "0000:1b:00.0")
    assert rounded(two) == ("NVIDIA GB10", 1, None, None, None, "000f:01:00.0")
    assert (one.driver, two.driver) == ("580.1", "580.1")
    assert query.nvidia("No devices were found\n") == []
    with pytest.raises(Unread):
        query.nvidia("NVIDIA-SMI has failed because it could not communicate")


def test_hl_smi_calls_boards_by_their_chip() -> None:
    (gaudi,) = query.habana("0, HL-225, 98304 MiB, 97000 MiB, 1.20.0-abc, 0000:3b:00.0\n")
    assert rounded(gaudi) == ("Intel Gaudi 2 (HL-225)", 0, 103.1, 101.7, None, "0000:3b:00.0")


def test_npu_smi_of_one_chip_and_of_two_chips_a_card() -> None:
    small, large = boxes.ascend(NPU_OLD)
    assert rounded(small) == ("Ascend 910B4", 0, 34.4, 32.3, None, "0000:c1:00.0")
    assert rounded(large)[:4] == ("Ascend 910B3", 1, 68.7, 26.8)
    assert [rounded(chip)[:3] for chip in boxes.ascend(NPU_TWO)] == [
        ("Ascend910", 2, 68.7),
        ("Ascend910", 3, 68.7),
    ]


def test_cnmon_before_and_after_its_fifth_version() -> None:
    (old,), (new,) = boxes.cambricon(CNMON_4), boxes.cambricon(CNMON_5)
    assert rounded(old) == ("Cambricon MLU370-X4", 0, 24.1, 24.1, 150.0, None)
    assert rounded(new) == ("Cambricon MLU370-X8", 0, 48.2, 48.1, 250.0, "0000:3d:00.0")
    assert (old.driver, new.driver) == ("v4.20.1", "v5.10.1")


def test_mthreads_gmi_and_mx_smi() -> None:
    (moore,), (c550, c500) = boxes.moore(MOORE), boxes.metax(METAX)
    assert rounded(moore) == ("Moore Threads MTT S5000", 0, 85.9, 85.9, None, "0000:2a:00.0")
    assert moore.driver == "3.3-server"
    assert rounded(c550) == ("MetaX C550", 0, 68.7, 67.9, 450.0, "0000:0f:00.0")
    assert (c500.name, c500.power_w) == ("MetaX C500", None)


def test_rocm_smi_counts_bytes_and_hy_smi_mib() -> None:
    said = "WARNING: low-power state\n" + json.dumps(
        {"card0": CARD, "system": {"Driver version": "6.8"}}
    )
    (amd,) = spoken.rocm(said)
    assert rounded(amd) == ("AMD Instinct MI300X", 0, 206.1, 205.1, 750.0, "0000:83:00.0")
    assert amd.driver == "6.8"
    (dcu,) = spoken.hygon(json.dumps({"card0": DCU}))
    assert rounded(dcu) == ("BW", 0, 68.7, 68.7, None, "0000:09:00.0")


@pytest.mark.parametrize("body", [[STATIC], {"gpu_data": [STATIC]}])
def test_amd_smi_with_and_without_its_wrapping(body: object) -> None:
    (amd,) = spoken.amd(json.dumps(body))
    assert rounded(amd) == ("AMD Instinct MI210", 3, 68.7, None, 300.0, "0000:83:00.0")
    assert (amd.units, amd.driver) == (104, "6.1")


def test_xpu_smi_leaves_out_virtual_functions_and_other_devices() -> None:
    others = [
        ARC | {"device_function_type": "virtual"},
        ARC | {"device_type": "NNP"},
    ]
    (arc,) = spoken.intel(json.dumps({"device_list": [ARC, *others]}))
    assert rounded(arc) == (
        "Intel(R) Arc(TM) Pro B60 Graphics",
        0,
        24.4,
        None,
        None,
        "0000:03:00.0",
    )


def test_a_mac_has_one_memory_for_both() -> None:
    card = {"_name": "Apple M1 Pro", "sppci_model": "Apple M1 Pro", "sppci_cores": "16"}
    (gpu,) = spoken.apple(json.dumps({"SPDisplaysDataType": [card, {"_name": "Radeon Pro"}]}))
    assert (gpu.units, gpu.shared, gpu.memory_gb) == (16, True, None)
    (cpu,) = mac(SYSCTL)
    assert cpu.cpu is not None
    assert (cpu.name, cpu.units, cpu.cpu.isa) == ("Apple M1 Pro", 10, ("neon",))
    assert cpu.cpu.last_cache == 2 * 12582912


READERS = [
    query.nvidia,
    query.iluvatar,
    query.habana,
    spoken.amd,
    spoken.rocm,
    spoken.hygon,
    spoken.intel,
    spoken.apple,
    boxes.ascend,
    boxes.cambricon,
    boxes.moore,
    boxes.metax,
    mac,
]


@pytest.mark.parametrize("read", READERS)
def test_no_reader_takes_nonsense_for_no_devices(read) -> None:
    for nonsense in ("Segmentation fault", '{"error": {"code": 3}}', "0, x\n"):
        with pytest.raises((Unread, ValueError, KeyError, TypeError)):
            read(nonsense)


@pytest.mark.parametrize(
    ("name", "gb", "id", "parts"),
    [
        ("NVIDIA H200", 150.8, "h200-sxm", 1),
        ("NVIDIA A100-SXM4-80GB", 85.9, "a100-sxm-80", 1),
        ("NVIDIA H100 PCIe", 85.5, "h100-pcie", 1),
        ("AMD Instinct MI300X", 206.1, "mi300x", 1),
        ("Ascend 910B3", 68.7, "ascend-910b", 1),
        ("Ascend910", 68.7, "ascend-910c", 2),
        ("Moore Threads MTT S5000", 85.9, "mtt-s5000", 1),
        ("Intel Gaudi 2 (HL-225)", 103.1, "gaudi2", 1),
        ("Intel(R) Arc(TM) Pro B60 Graphics", 24.4, "arc-pro-b60", 1),
        ("NVIDIA H100 80GB HBM3e", 85.0, None, 1),
        ("NVIDIA GeForce RTX 3060", 12.0, None, 1),
    ],
)
def test_the_catalogue_is_met_by_whole_names(name, gb, id, parts) -> None:
    device = Device(vendor="x", name=name, index=0, told_by="x", memory_gb=gb)
    chip, counted, why = row(device, shipped())
    assert (chip and chip.id, counted, why) == (id, parts, "")


def test_other_memory_is_another_chip() -> None:
    device = Device(vendor="x", name="Ascend 910B4", index=0, told_by="x", memory_gb=34.4)
    assert row(device, shipped())[0] is None
    assert "it has 34 GB, and ascend-910b of the catalogue 64" in row(device, shipped())[2]
