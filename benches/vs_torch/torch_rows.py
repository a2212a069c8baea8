"""The rows of gradus-bench in PyTorch: the same inputs, the same work, the same line of JSON.

`cargo xtask bench --vs-torch` runs it; it also runs alone, and needs nothing but PyTorch:

    python torch_rows.py --row mlp_step --threads 2 --seconds 3 --mode compile

Whatever PyTorch has to be faster is on: fused optimizers and losses, channels-last images where they are faster
(tried before timing), and an allocator that keeps freed memory on huge pages.
"""

import argparse, ctypes, gc, json, math, os, sys, time

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as e:
    sys.exit(
        f"{sys.executable} has no PyTorch: {e}\n"
        "Install it (pip install torch), or name a Python that has it by --python"
    )

SQRT3 = math.sqrt(3.0)
CHECKED_STEPS = 5
BATCHES = 8
KEEP_MEMORY = "hugetlb=1", "mmap_max=0", "trim_threshold=2147483647", "top_pad=67108864"
TUNABLES = ":".join(f"glibc.malloc.{setting}" for setting in KEEP_MEMORY)


# ---- inputs: functions of (seed, index)


def hash64(seed, n):
    """64 well-mixed bits for each of 0..n, as int64; its products wrap around like those of u64."""
    signed = lambda v: (v + 2**63) % 2**64 - 2**63
    shift = lambda z, k: (z >> k) & (2 ** (64 - k) - 1)
    z = torch.arange(1, n + 1) * signed(0xD1B54A32D192ED03) + signed(seed * 0x9E3779B97F4A7C15)
    z = (z ^ shift(z, 30)) * signed(0xBF58476D1CE4E5B9)
    z = (z ^ shift(z, 27)) * signed(0x94D049BB133111EB)
    return z ^ shift(z, 31)


def unit(seed, *shape):
    """Uniform in [0, 1), a multiple of 2^-24."""
    bits = (hash64(seed, math.prod(shape)) >> 40) & 0xFFFFFF
    return (bits.float() * 2.0**-24).reshape(shape)


def sym(seed, *shape, bound=1.0):
    return (unit(seed, *shape) * 2.0 - 1.0) * bound


def ints(seed, n, modulus):
    return ((hash64(seed, n) >> 32) & 0xFFFFFFFF) % modulus


def tokens(b, n, length):
    """Sequences that count up from a start by a stride, and what follows each token."""
    start, stride = ints(200 + b, n, 96)[:, None], 1 + ints(300 + b, n, 5)[:, None]
    all_tokens = (start + stride * torch.arange(length + 1)) % 96
    return all_tokens[:, :-1].contiguous(), all_tokens[:, 1:].reshape(-1)


# ---- checks


def project(t, j):
    """Output j projected on a pseudo-random vector, and its root mean square."""
    t = t.detach().contiguous().reshape(-1).double()
    r = ((hash64(900 + j, t.numel()) >> 40) & 0xFFFFFF).double() * 2.0**-23 - 1.0
    return (t @ r).item() / math.sqrt(t.numel()), math.sqrt((t @ t).item() / t.numel())


def of_outputs(outputs):
    checks, scale = zip(*(project(t, j) for j, t in enumerate(outputs)))
    return list(checks), list(scale)


# ---- kernel rows: each gives (iterate, checks), where checks calls iterate as often as it needs to


def forward_backward(inputs, dy, op):
    """The result of op, and the gradients of its inputs from dy."""
    inputs = [x.requires_grad_() for x in inputs]

    def iterate():
        y = op(*inputs)
        return [y, *torch.autograd.grad(y, inputs, dy)]

    return iterate, lambda: of_outputs(iterate())


def gemm(m, k, n):
    def row(compiled):
        a, b = sym(1, m, k), sym(2, k, n)
        product = compiled(torch.mm)
        iterate = lambda: product(a, b)
        return iterate, lambda: of_outputs([iterate()])

    return row


def layer_norm(compiled):
    inputs = [sym(1, 4096, 768, bound=SQRT3), sym(3, 768), sym(4, 768)]
    return forward_backward(inputs, sym(2, 4096, 768), compiled(lambda x, g, b: F.layer_norm(x, (768,), g, b, 1e-5)))


def rms_norm(compiled):
    inputs = [sym(1, 4096, 768, bound=SQRT3), sym(3, 768)]
    return forward_backward(inputs, sym(2, 4096, 768), compiled(lambda x, g: F.rms_norm(x, (768,), g, 1e-6)))


def batch_norm(compiled, memory_format=torch.contiguous_format):
    shape = (64, 64, 28, 28)
    x, dy = (t.contiguous(memory_format=memory_format) for t in (sym(1, *shape, bound=SQRT3), sym(2, *shape)))
    mean, var = torch.zeros(64), torch.ones(64)
    op = compiled(lambda x, g, b: F.batch_norm(x, mean, var, g, b, training=True))
    return forward_backward([x, sym(3, 64), sym(4, 64)], dy, op)


def softmax_xent(compiled):
    logits, labels = sym(1, 2048, 8192, bound=SQRT3), ints(2, 2048, 8192)
    return forward_backward([logits], torch.ones(()), compiled(lambda x: F.cross_entropy(x, labels)))


def gelu(compiled):
    return forward_backward([sym(1, 4 << 20, bound=3.0)], sym(2, 4 << 20), compiled(F.gelu))


def dropout(compiled):
    x, dy = unit(1, 16 << 20) + 0.5, unit(2, 16 << 20) + 0.5
    iterate, _ = forward_backward([x], dy, compiled(lambda x: F.dropout(x, 0.1)))

    def checks():
        y, dx = iterate()
        zeros = lambda t: (t == 0).double().mean().item()
        error = torch.where(y == 0, 0.0, y * 0.9 - x).abs().max().item()
        return [zeros(y), zeros(dx), error, ((y == 0) != (dx == 0)).double().mean().item()], [1.0] * 4

    return iterate, checks


def conv3x3(compiled, memory_format=torch.contiguous_format):
    tensors = sym(1, 32, 64, 32, 32), sym(3, 64, 64, 3, 3, bound=math.sqrt(6 / 576)), sym(2, 32, 64, 32, 32)
    x, w, dy = (t.contiguous(memory_format=memory_format) for t in tensors)
    return forward_backward([x, w], dy, compiled(lambda x, w: F.conv2d(x, w, padding=1)))


def attention(compiled):
    q, k, v, dy = (sym(seed, 8, 8, 256, 64, bound=SQRT3) for seed in (1, 2, 3, 4))
    op = compiled(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    return forward_backward([q, k, v], dy, op)


def sixty():
    """The parameters of a small transformer and a convolutional stem, with gradients."""
    d = 448
    block = [(d,), (d,), (3 * d, d), (3 * d,), (d, d), (d,), (d,), (d,), (4 * d, d), (4 * d,), (d, 4 * d), (d,)]
    end = [(d,), (d,), (256, d), (64, 3, 3, 3), (64,), (64,), (d, 64), (d,), (1,), (1,)]
    params = [nn.Parameter(sym(3000 + j, *s, bound=0.05)) for j, s in enumerate([(256, d)] * 2 + block * 4 + end)]
    for j, p in enumerate(params):
        p.grad = sym(2000 + j, *p.shape)
    return params


def clip_grad_norm(compiled):
    params = sixty()
    bound = math.sqrt(sum(p.grad.double().square().sum().item() for p in params))
    clip = compiled(lambda max_norm: nn.utils.clip_grad_norm_(params, max_norm))

    def iterate():
        nonlocal bound
        bound *= 0.999
        return clip(torch.tensor(bound)).item()

    def checks():
        norms = [iterate() for _ in range(3)]
        check, scale = project(torch.cat([p.grad.reshape(-1) for p in params]), 0)
        return [*norms, check], [*norms, scale]

    return iterate, checks


def adamw(compiled):
    params = sixty()
    iterate = torch.optim.AdamW(params, lr=1e-3, weight_decay=0.01, fused=True).step

    def checks():
        for _ in range(3):
            iterate()
        return of_outputs([torch.cat([p.reshape(-1) for p in params])])

    return iterate, checks


def kaiming_normal(compiled):
    w = torch.empty(4096, 2560)
    iterate = compiled(lambda: nn.init.kaiming_normal_(w, nonlinearity="relu"))

    def checks():
        iterate()
        z = w.double() / math.sqrt(2 / 2560)
        mean, std = z.mean().item(), z.std(correction=0).item()
        kurtosis = (((z - mean) / std) ** 4).mean().item() - 3.0
        return [std, mean / std, kurtosis, z.abs().max().item()], [1.0] * 4

    return iterate, checks


# ---- models


def mlp(p):
    hidden = lambda i: [nn.Linear(i, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(p)]
    return nn.Sequential(*hidden(784), *hidden(512), nn.Linear(512, 10))


def tiny_mlp(p):
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))


def conv(inputs, outputs, window, stride=1):
    return nn.Conv2d(inputs, outputs, window, stride, padding=window // 2, bias=False)


def cnn(p):
    stage = lambda i, o: [conv(i, o, 3), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Dropout(p), nn.Linear(128, 10)]
    return nn.Sequential(*stage(1, 32), *stage(32, 64), *head)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.inner = nn.Sequential(
            *(conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU()),
            *(conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)),
        )
        changed = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        self.shortcut = changed if inputs != outputs or stride != 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.inner(x) + self.shortcut(x))


def resnet(p):
    widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
    stem = [conv(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *(Block(*w) for w in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Lstm(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.embedding = nn.Embedding(96, 128)
        self.lstm = nn.LSTM(128, 256, batch_first=True)
        self.head = nn.Linear(256, 96)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0]).flatten(0, 1)


class TransformerBlock(nn.Module):
    def __init__(self, dim, heads, p):
        super().__init__()
        self.ln1, self.qkv, self.proj = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.ln2, self.w1, self.w2 = nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.heads, self.drop = heads, nn.Dropout(p)

    def forward(self, x):
        n, t, dim = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(n, t, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, dim)
        x = x + self.drop(self.proj(y))
        return x + self.drop(self.w2(F.gelu(self.w1(self.ln2(x)))))


class Gpt(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.wte, self.wpe, self.drop = nn.Embedding(96, 256), nn.Embedding(128, 256), nn.Dropout(p)
        self.blocks = nn.Sequential(*(TransformerBlock(256, 4, p) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(256), nn.Linear(256, 96, bias=False)

    def forward(self, x):
        x = self.drop(self.wte(x) + self.wpe.weight)
        return self.head(self.norm(self.blocks(x))).flatten(0, 1)


# ---- training rows


def bound(row, module):
    """The bound of a parameter's uniform start."""
    if row == "gpt_step":
        return 0.02 * SQRT3
    if isinstance(module, nn.Embedding):
        return SQRT3
    if isinstance(module, nn.LSTM):
        return 1 / 16
    fan_in = module.weight[0].numel()
    return math.sqrt(6 / fan_in) if isinstance(module, nn.Conv2d) else 1 / math.sqrt(fan_in)


def start(row, model):
    """Norms begin as the identity, the biases of the transformer at 0, all else uniform."""
    i = 0
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            norm = isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm))
            zero = row == "gpt_step" and name == "bias"
            if not norm:
                p.data = torch.zeros_like(p) if zero else sym(1000 + i, *p.shape, bound=bound(row, module))
            i += 1
    return model


def adamw_with(lr, decay):
    return lr, lambda params: torch.optim.AdamW(params, lr=lr, weight_decay=decay, fused=True)


def sgd_with(lr, decay=0.0, nesterov=False):
    rest = dict(momentum=0.9, weight_decay=decay, nesterov=nesterov, fused=True)
    return lr, lambda params: torch.optim.SGD(params, lr=lr, **rest)


def labelled(n, *shape):
    return lambda b: (sym(100 + b, n, *shape, bound=SQRT3), ints(200 + b, n, 10))


def tiny_batch(b):
    x = sym(100 + b, 32, 8, bound=SQRT3)
    return x, x[:, 0:1] * x[:, 1:2] - 0.5 * x[:, 2:3]


def training(row, model, p, batch, loss, optimizer):
    def build(compiled, memory_format=torch.contiguous_format):
        net = start(row, model(p)).to(memory_format=memory_format)
        place = lambda x: x.contiguous(memory_format=memory_format) if x.dim() == 4 else x
        batches = [(place(x), y) for x, y in map(batch, range(BATCHES))]
        params = list(net.parameters())
        base, make = optimizer
        update = make(params)
        compute = compiled(lambda x, y: loss(net(x), y))
        t = 0

        def step():
            nonlocal t
            x, y = batches[t % BATCHES]
            t += 1
            cosine = 0.5 * (1 + math.cos(math.pi * min(t, 1_000_000) / 1_000_000))
            update.param_groups[0]["lr"] = base * min(1, t / 10) * cosine
            update.zero_grad()
            value = compute(x, y)
            value.backward()
            nn.utils.clip_grad_norm_(params, 1.0)
            update.step()
            return value.item()

        def checks():
            losses = [step() for _ in range(CHECKED_STEPS)]
            return losses, losses

        return step, checks

    return build


def rows(nodrop):
    """All rows: functions of (compiled), or of (compiled, memory_format)."""
    p = lambda p: 0.0 if nodrop else p
    train = lambda row, *rest: {row: training(row, *rest)}
    return {
        "gemm_256": gemm(256, 256, 256),
        "gemm_1024": gemm(1024, 1024, 1024),
        "gemm_skinny": gemm(128, 784, 512),
        "layernorm_fwd_bwd": layer_norm,
        "rmsnorm_fwd_bwd": rms_norm,
        "batchnorm2d_fwd_bwd": batch_norm,
        "softmax_xent_fwd_bwd": softmax_xent,
        "gelu_fwd_bwd": gelu,
        "dropout_fwd_bwd": dropout,
        "clip_grad_norm": clip_grad_norm,
        "adamw_step": adamw,
        "kaiming_normal_init": kaiming_normal,
        "conv3x3_fwd_bwd": conv3x3,
        "attention_causal_fwd_bwd": attention,
        **train("mlp_step", mlp, p(0.2), labelled(128, 784), F.cross_entropy, adamw_with(1e-3, 0.01)),
        **train("tiny_mlp_step", tiny_mlp, 0.0, tiny_batch, F.mse_loss, sgd_with(0.05)),
        **train("cnn_step", cnn, p(0.5), labelled(64, 1, 28, 28), F.cross_entropy, sgd_with(0.05, 5e-4, True)),
        **train("resnet_step", resnet, 0.0, labelled(64, 3, 32, 32), F.cross_entropy, sgd_with(0.1, 1e-4)),
        **train("lstm_step", Lstm, 0.0, lambda b: tokens(b, 32, 64), F.cross_entropy, adamw_with(2e-3, 0.01)),
        **train("gpt_step", Gpt, p(0.1), lambda b: tokens(b, 16, 128), F.cross_entropy, adamw_with(3e-4, 0.1)),
    }


IMAGES = {"batchnorm2d_fwd_bwd", "conv3x3_fwd_bwd", "cnn_step", "resnet_step"}


# ---- the clock


def peak_rss_mib():
    try:
        with open("/proc/self/status") as status:
            return round(next(int(l.split()[1]) for l in status if l.startswith("VmHWM:")) / 1024, 1)
    except OSError:
        return None


def reset_peak_rss():
    """The peak begins anew, with what the set-up has freed given back."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
    except (OSError, AttributeError):
        pass


def seconds_of_others():
    """Cpu seconds that all but this process have used: all fields of the first line but idle and iowait."""
    try:
        with open("/proc/stat") as stat:
            ticks = [int(v) for v in stat.readline().split()[1:9]]
    except OSError:
        return None
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK") - time.process_time()


def loop(iterate, seconds, least):
    """Times of single iterations in ms, sorted."""
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < seconds or len(times) < least:
        t = time.perf_counter()
        iterate()
        times.append((time.perf_counter() - t) * 1e3)
    return sorted(times)


def measure(row, build, args):
    compiled = (lambda f: torch.compile(f)) if args.mode == "compile" else (lambda f: f)
    formats = [torch.contiguous_format, torch.channels_last] if row in IMAGES else [None]
    begin = time.perf_counter()
    candidates = [build(compiled, *([f] if f else [])) for f in formats]
    results = [checks() for _, checks in candidates]
    # Where there are several ways, the fastest counts.
    tried = [loop(iterate, 0.0, 3)[1] for iterate, _ in candidates] if len(candidates) > 1 else [0.0]
    best = tried.index(min(tried))
    checks, scale = results[best]
    iterate = candidates[best][0]
    del candidates
    reset_peak_rss()
    loop(iterate, 0.2, 3)
    warmup = time.perf_counter() - begin
    before, begin = seconds_of_others(), time.perf_counter()
    ms = loop(iterate, args.seconds, 5)
    elapsed = time.perf_counter() - begin
    others = None if before is None else round(max(0.0, seconds_of_others() - before) / elapsed, 2)
    n = len(ms)
    return {
        "impl": f"torch-{args.mode}",
        "version": torch.__version__,
        "row": row,
        "dtype": "f32",
        "threads": args.threads,
        "iters": n,
        "median_ms": round(ms[n // 2], 6),
        "min_ms": round(ms[0], 6),
        "p90_ms": round(ms[n * 9 // 10], 6),
        "peak_rss_mib": peak_rss_mib(),
        "other_cpus": others,
        "warmup_s": round(warmup, 3),
        "variant": str(formats[best] or ""),
        "checks": checks,
        "scale": scale,
        "check": checks[-1] if len(checks) == CHECKED_STEPS else checks[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--mode", choices=["eager", "compile"], default="eager")
    parser.add_argument("--nodrop", action="store_true", help="turns dropout off in the training rows")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--version", action="version", version=torch.__version__)
    args = parser.parse_args()
    table = rows(args.nodrop)
    if args.list:
        return print("\n".join(table))
    if args.row not in table:
        parser.error(f"there is no row {args.row}; rows: {', '.join(table)}")
    if "glibc.malloc." not in os.environ.get("GLIBC_TUNABLES", ""):
        # Read when a program starts.
        os.environ["GLIBC_TUNABLES"] = TUNABLES
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.threads:])
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(json.dumps(measure(args.row, table[args.row], args)))


if __name__ == "__main__":
    main()
