"""Eager expression: s = s + (x*w + b).tanh(), many times. Four nodes a term; where there is no tanh, ReLU."""

NODES_A_TERM = 4


class Workload:
    """Options: terms; function, 'tanh' or 'relu'."""

    def __init__(self, options):
        self.terms = options.get("terms", 20_000)
        self.function = options.get("function", "tanh")
        self.numbers = [0.5, 0.3, 0.1]
        self.nodes = NODES_A_TERM * self.terms

    def build(self, lib, leaves):
        return leaves

    def loss(self, lib, model):
        x, w, b = model
        s = lib.const(0.0)
        if self.function == "tanh":
            for _ in range(self.terms):
                s = s + (x * w + b).tanh()
        else:
            for _ in range(self.terms):
                s = s + (x * w + b).relu()
        return s
