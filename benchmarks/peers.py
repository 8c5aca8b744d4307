"""Who is measured: libraries that a user could pick instead, each in an environment of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Peer:
    """A library, or a way of running it."""

    name: str
    environment: str  # peers of one environment share it
    requires: tuple[str, ...] = ()  # pip's arguments; {root} is this project
    adapter: str = "Eager"  # a class of adapters.py
    gc: bool = True  # Python's cyclic collector, as users run it
    variables: dict[str, str] = field(default_factory=dict)
    constraint: str = ""  # of what it is built with
    most_nodes: int = 10**6  # that growth asks of it
    tolerance: float = 1e-9  # relative, of gradients against micrograd's
    note: str = ""
    options: dict[str, bool] = field(default_factory=dict)  # of the workload


PYGRAD = ("{root}[numpy]",)

PEERS = [
    Peer("pygrad", "pygrad", PYGRAD, "Pygrad", most_nodes=10**7),
    Peer("pygrad over cffi", "pygrad", PYGRAD, "Pygrad", variables={"PYGRAD_OPERANDS": "cffi"}, note="PyPy's way"),
    Peer("micrograd", "micrograd", ("micrograd==0.1.0",), "Micrograd", note="with the lecture's tanh"),
    Peer("micrograd without GC", "micrograd", ("micrograd==0.1.0",), "Micrograd", gc=False, note="collected by steps"),
    Peer("plain Python", "plain", (), "Plain", note="benchmarks/plain.py: partials stored"),
    Peer("plain Python without GC", "plain", (), "Plain", gc=False, note="collected between runs"),
    Peer("minigrad", "minigrad", ("minigrad==0.0.6",), "Minigrad", note="no numbers among Values: made Values once"),
    Peer("micrograd-rust", "micrograd-rust", ("micrograd-rust",), "DropIn"),
    Peer("oxigrad", "oxigrad", ("oxigrad",), "DropIn"),
    Peer(
        "micrograd-cpp-engine",
        "micrograd-cpp-engine",
        ("micrograd-cpp-engine==0.1.1",),
        "MicrogradCpp",
        constraint="scikit-build-core<0.8",
        most_nodes=10**4,
        tolerance=1e-4,
        note="float32 tensors of one element",
    ),
    Peer("xad", "xad", ("xad==1.5.2", "numpy"), "Xad"),
    Peer("casadi", "casadi", ("casadi==3.8.2",), "Casadi", most_nodes=10**5, note="SX, built and run at each step"),
    Peer("autograd", "autograd", ("autograd==1.9.1",), "Autograd", most_nodes=10**5),
    Peer("PyTorch", "torch", ("torch==2.13.0", "numpy"), "Torch", most_nodes=10**5, note="0-d float64 tensors"),
    Peer("JAX", "jax", ("jax==0.10.2", "jaxlib==0.10.2"), "Jax", most_nodes=10**4, note="jax.vjp, not jitted"),
]

# Where recorded.py's rivals run, and what they are called. One thread each, unless it says so.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_ENVIRONMENTS = {peer.environment: peer for peer in PEERS}
RIVALS = {
    rival: replace(_ENVIRONMENTS[environment], name=name, variables=ONE_THREAD)
    for rival, environment, name in [
        ("Pygrad", "pygrad", "pygrad"),
        ("PygradTwoWorkers", "pygrad", "pygrad, two workers"),
        ("PygradC", "pygrad", "pygrad's to_c, gcc -O3 -ffast-math"),
        ("Hand", "pygrad", "C by hand, with vectors"),
        ("NumPy", "pygrad", "NumPy by hand"),
        ("Jax", "jax", "JAX jit, its own threads"),
        ("Casadi", "casadi", "CasADi"),
        ("Torch", "torch", "PyTorch"),
        ("Xad", "xad", "xad, adjoints alone"),
        ("Plain", "plain", "plain Python"),
    ]
}

PROBLEMS = {
    # The problems of recorded.py: who takes part; operations that a run stands for.
    "moons": (["Pygrad", "PygradC", "Hand", "NumPy", "Jax", "Casadi", "Torch"], 65_000),
    "expression": (["Pygrad", "Casadi", "Xad"], 80_000),
    "random": (["Pygrad", "Casadi", "Xad"], 100_000),
    "two_floats": (["Pygrad", "Jax"], 5),
    "rosenbrock_gradient": (["Pygrad", "NumPy", "Jax", "Casadi"], 7_000),
    "rosenbrock_hvp": (["Pygrad", "Casadi"], 7_000),
    "batch": (["Pygrad", "PygradTwoWorkers", "PygradC", "Hand", "NumPy", "Jax", "Torch"], 50_000_000),
    "batch_gradient": (["Pygrad", "PygradTwoWorkers", "PygradC"], 50_000_000),
    "greeks": (["Pygrad", "PygradTwoWorkers", "PygradC", "Hand", "Jax"], 7_000_000),
    "transformer": (["Pygrad", "Plain"], 64_000),
}

# pygrad's own ways of doing what the transformer's generic code spells out.
FAST = Peer("pygrad with dot and Adam", "pygrad", PYGRAD, "Pygrad", options={"fast": True})
