"""A peer's process: takes one JSON command a line, answers with one. Run by the peer's own Python.

{"do": "setup", "adapter": ..., "workload": ..., "options": {...}, "gc": true}   -> {"ok": true}
{"do": "setup", "rival": ..., "problem": ..., "seed": ...}   the same of recorded.py, with runs for steps
{"do": "result"}     -> {"result": [loss, gradient...]}   a step that is not timed
{"do": "step"}       -> {"forward": s, "backward": s, "update": s, "free": s, "bytes": resident bytes more}
{"do": "turn", "seconds": ...} -> {"steps": [...]}   so long a turn of steps, at least one
{"do": "operations", "quick": ...} -> {"operations": {snippet: [ns, ns of floats]}}
{"do": "building", "sizes": [...]} -> {"building": {operations: {...}}}
"""

import gc
import importlib
import json
import platform
import sys
import threading
from pathlib import Path
from time import perf_counter

import adapters


def resident():
    """Bytes of memory in use; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


class Worker:
    run = None  # of a recorded function

    def setup(self, command):
        if "rival" in command:
            import recorded

            self.run = recorded.make(command["rival"], command["problem"], command["seed"])
            return {"ok": True}
        if not hasattr(self, "lib"):
            self.lib = getattr(adapters, command["adapter"])()
        self.gc = command["gc"]
        workload = importlib.import_module(command["workload"]).Workload(command["options"])
        self.lib.prepare(workload)
        self.k = 0
        return {"ok": True, "python": platform.python_version()}

    def result(self, command):
        if self.run is not None:
            import recorded

            return {"result": recorded.flat(self.run())}
        root = self.lib.forward()
        self.lib.backward(root)
        return {"result": self.lib.result(root)}

    def building(self, command):
        import recorded

        return {"building": recorded.building(command["sizes"])}

    def step(self, command):
        if self.run is not None:
            start = perf_counter()
            self.run()
            return {"forward": perf_counter() - start, "backward": 0.0, "update": 0.0, "free": 0.0}
        lib, workload = self.lib, self.lib.workload
        (gc.enable if self.gc else gc.disable)()
        before = resident()
        start = perf_counter()
        root = lib.forward()
        forward = perf_counter()
        more = resident() - before
        swept = perf_counter()
        lib.backward(root)
        backward = perf_counter()
        if hasattr(workload, "update"):
            workload.update(lib, lib.leaves, self.k)
        updated = perf_counter()
        del root
        freed = perf_counter()
        self.k += 1
        if not self.gc:
            gc.collect()
        return {
            "forward": forward - start,
            "backward": backward - swept,
            "update": updated - backward,
            "free": freed - updated,
            "bytes": more,
        }

    def turn(self, command):
        """Steps one after another, as a program makes them: a lone one among other processes runs on cold caches."""
        end = perf_counter() + command["seconds"]
        steps = [self.step(command)]
        while perf_counter() < end:
            steps.append(self.step(command))
        return {"steps": steps}

    def operations(self, command):
        self.lib = getattr(adapters, command["adapter"])()
        import operation

        return {"operations": operation.measure(self.lib, command["quick"])}

    def serve(self):
        for line in sys.stdin:
            command = json.loads(line)
            try:
                answer = getattr(self, command["do"])(command)
            except (adapters.LacksError, AttributeError, TypeError) as error:
                answer = {"lacks": str(error)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    # Recursive sweeps need room: micrograd's goes as deep as the graph.
    sys.setrecursionlimit(10**8)
    threading.stack_size(1 << 30)
    thread = threading.Thread(target=Worker().serve)
    thread.start()
    thread.join()
