"""Timing shared by the PyTorch peers: the same way as benchmarks/support/cold_timer.cpp.

Each timed call follows a fill of 256 MiB, which evicts its data from the caches, and reads of
192 MiB, which leave no lines to be written back; meanwhile the host runs ahead and queues the call.
On a GPU times come from events, on the CPU from the clock.
"""
import statistics
import time

import torch

AREA_BYTES = 256 << 20
PART_BYTES = 8 << 20
PARTS_READ = 24


class ColdTimer:
    def __init__(self, device):
        self.cuda = device.type == "cuda"
        self.area = torch.empty(AREA_BYTES, dtype=torch.uint8, device=device)
        self.part = torch.empty(PART_BYTES, dtype=torch.uint8, device=device)

    def flush_caches(self):
        self.area.fill_(1)
        for i in range(PARTS_READ):
            self.part.copy_(self.area[i * PART_BYTES:(i + 1) * PART_BYTES])

    def microseconds(self, call):
        self.flush_caches()
        if not self.cuda:
            begin = time.perf_counter()
            call()
            return (time.perf_counter() - begin) * 1e6
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3

    def median_us(self, call, repeats, warmup=3):
        """(median, best) of `repeats` calls."""
        for _ in range(warmup):
            call()
        times = [self.microseconds(call) for _ in range(repeats)]
        return statistics.median(times), min(times)


def pick_device(name):
    """The torch device, and its name for people; exits with one sentence if there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"this PyTorch ({torch.__version__}) has no GPU here; nothing was measured")
    device = torch.device(name)
    return device, torch.cuda.get_device_name(0) if name == "cuda" else "cpu"


def exact_float32():
    """No TF32, as in our kernels."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
