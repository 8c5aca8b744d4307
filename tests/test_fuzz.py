"""The fuzzers' corpus, replayed; and the defects that they, or writing them, have revealed."""

from __future__ import annotations

import functools
import gc
import importlib.util
import io
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz"


def harness(name):
    """The module of tests/fuzz, which has no package."""
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", FUZZ / f"fuzz_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "expected"),
    [("formula", {"refused", "no value", "evaluated"}), ("load", {"refused", "loaded", "run"})],
)
def test_the_corpus_is_read_or_refused_as_documented(pg, tmp_path, name, expected):
    if name == "load":
        pytest.importorskip("numpy")
    if not (FUZZ / "corpus").exists() and (FUZZ.parent.parent / "PKG-INFO").exists():
        pytest.skip("a source distribution has no corpus")
    fuzzer = harness(name)
    fuzzer.FILE = tmp_path / "file"
    files = sorted((FUZZ / "corpus" / name).iterdir())
    found = set()
    for file in files:
        try:
            found.add(fuzzer.check(file.read_bytes()))
        except BaseException as error:
            raise AssertionError(f"{file}: {type(error).__name__}: {error}") from error
    assert len(files) > 20 and expected <= found


# ---- Files -----------------------------------------------------------------------------------------


def header_of(kind="<f8", shape="(4,)", order="False"):
    return f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}"


def npy(header, content=bytes(32)):
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def npz(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@functools.cache
def damaged():
    """Files, by name, that once raised something other than ValueError, or took as much memory as they claimed."""
    big = npy(header_of(shape="(1000000000000,)"))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", bytes(100_000_000))
    good = io.BytesIO()
    with zipfile.ZipFile(good, "w") as archive:
        archive.writestr("w.npy", npy(header_of()))
    packed = bytearray(good.getvalue())
    encrypted = bytearray(packed)
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    method = bytearray(packed)
    method[8] = method[method.index(b"PK\1\2") + 10] = 99
    return {
        "nothing": b"",
        "no zip": b"hello",
        "cut off": bytes(packed[:-10]),
        "an array alone": npy(header_of()),
        "a bomb": file.getvalue(),
        "encrypted": bytes(encrypted),
        "an unknown compression": bytes(method),
        "a promise of memory": {"w.npy": big},
        "an object": {"w.npy": npy(header_of("|O", "()"), b"cos\nsystem\n(S'true'\ntR.")},
        "code in the header": {"w.npy": npy("__import__('os').abort()")},
        "nesting in the header": {"w.npy": npy("(" * 200)},
        "text for numbers": {"w.npy": npy(header_of("<U8"))},
        "an unknown width": {"w.npy": npy(header_of("<f3", "(4,)"), bytes(12))},
        "no .npy": {"w": npy(header_of())},
        "an empty entry": {"w.npy": b""},
    }


@pytest.mark.parametrize("name", damaged())
def test_damaged_npz_files_are_valueerrors_and_change_nothing(pg, tmp_path, name):
    np = pytest.importorskip("numpy")
    content, path = damaged()[name], tmp_path / "strange.npz"
    if isinstance(content, dict):
        npz(path, content)
    else:
        path.write_bytes(content)
    model = pg.nn.MLP(2, [2, 1])
    before = [p.data for p in model.parameters()]
    with pytest.raises(ValueError, match="strange.npz: not an .npz file of numbers, or a damaged one"):
        model.load(path)
    assert [p.data for p in model.parameters()] == before
    with pytest.raises(ValueError, match="strange.npz"):
        pg.fit(model, np.ones((4, 2)), np.ones(4), checkpoint=path, resume=True)
    assert [p.data for p in model.parameters()] == before


def test_what_numpy_writes_is_read(pg, tmp_path):
    np = pytest.importorskip("numpy")
    arrays = {
        "a": np.arange(3.0),
        "b": np.arange(6, dtype=">f4").reshape(2, 3),
        "c": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "d": np.array(2, dtype=np.int8),
        "e": np.array([True, False]),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "f.npz", text=np.array("αβ\n"), **arrays)
        read = sys.modules["pygrad._learn.npz"].read(tmp_path / "f.npz", 20, texts=("text",))
        assert read.pop("text") == "αβ\n" and set(read) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)


def checkpoint(pg, path, change):
    """Write a checkpoint with its text changed by `change`; return a model that it fits, and its data."""
    np = pytest.importorskip("numpy")
    model, data = pg.nn.MLP(2, [1]), (np.ones((4, 2)), np.ones(4))
    pg.fit(model, *data, epochs=2, checkpoint=path)
    with np.load(path) as arrays:
        content = dict(arrays)
    text = json.loads(str(content["text"]))
    change(text, content)
    np.savez(path, **{**content, "text": np.array(json.dumps(text))})
    return model, data


CHANGES = {
    "settings of text": lambda text, arrays: text["settings"].update(lr="x"),
    "settings beyond float64": lambda text, arrays: text["settings"].update(lr=10**400),
    "no settings": lambda text, arrays: text.pop("settings"),
    "a step of text": lambda text, arrays: text.update(step="3"),
    "a negative step": lambda text, arrays: text.update(step=-1),
    "an epoch of its own": lambda text, arrays: text.update(epoch=1.5),
    "another number of epochs": lambda text, arrays: text.update(epoch=7),
    "history of text": lambda text, arrays: text["history"][0].append("x"),
    "history as a text": lambda text, arrays: text.update(history="abc"),
    "best of one": lambda text, arrays: text.update(best=[1.0]),
    "no w": lambda text, arrays: arrays.pop("w"),
    "no best": lambda text, arrays: arrays.pop("best"),
    "best of another shape": lambda text, arrays: arrays.update(best=arrays["best"][:1]),
    "a state that is none": lambda text, arrays: arrays.update(other=arrays["w"]),
    "a state cut off": lambda text, arrays: arrays.update(state_exp_avg=arrays["w"][:1]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_checkpoints_that_make_no_sense_are_valueerrors_that_name_the_file(pg, tmp_path, name):
    path = tmp_path / "strange.npz"
    model, data = checkpoint(pg, path, CHANGES[name])
    before = [p.data for p in model.parameters()]
    with pytest.raises(ValueError, match="strange.npz: "):
        pg.fit(model, *data, epochs=3, checkpoint=path, resume=True)
    assert [p.data for p in model.parameters()] == before


def test_checkpoints_that_are_left_as_they_are_resume(pg, tmp_path):
    model, data = checkpoint(pg, tmp_path / "f.npz", lambda text, arrays: None)
    assert len(pg.fit(model, *data, epochs=3, checkpoint=tmp_path / "f.npz", resume=True).loss) == 3


# ---- Programs --------------------------------------------------------------------------------------


def changed(pg, program, change):
    """The program from its file, with header and numbers changed by `change`."""
    magic, length, rest = pg._program.files.to_bytes(program.code).split(b"\n", 2)
    header, arrays = json.loads(rest[: int(length)]), bytearray(rest[int(length) :])
    change(header, arrays)
    text = json.dumps(header).encode()
    return pg.Program(
        pg._program.files.from_bytes(b"%s\n%d\n%s%s" % (magic, len(text), text, bytes(arrays)), "strange.pygrad"),
    )


def test_elements_that_a_strangers_program_does_not_write_are_zeros(pg):
    np = pytest.importorskip("numpy")
    program = pg.jit(lambda x: x * 2).program(np.ones(3))

    def longer(header, _arrays):
        header["results"] = ["list", ["array", [50_000]], "scalar"]

    def longer_scalars(header, _arrays):
        header["results"] = ["list", *["scalar"] * 40]

    for _ in range(20):
        np.full(50_000, 7.0)  # freed memory, which may be allocated again
        array, number = changed(pg, program, longer)(np.ones(3))
        assert array[:3].tolist() == [2.0, 2.0, 2.0] and not array[3:].any() and number == 0.0
    program = pg.jit(lambda x: [x * 2]).program(1.0)
    assert changed(pg, program, longer_scalars)(1.5) == [3.0, *[0.0] * 39]


def test_numbers_of_lanes_that_would_wrap_are_refused(pg):
    np = pytest.importorskip("numpy")
    program = pg.vmap(lambda x: x * 2).program(np.ones(3))

    def endless(_header, arrays):
        arrays[-8:] = struct.pack("<Q", 2**64 - 1)  # group_lanes, which come last

        def no_stride(at):
            arrays[at : at + 8] = bytes(8)

        # outputs {node, array, offset, stride} and lane inputs {array, offset, stride}, before group_first_input.
        no_stride(-8 - 8 - 8)
        no_stride(-8 - 8 - 24 - 8)

    with pytest.raises(ValueError, match="strange.pygrad: not a program, or a damaged one"):
        changed(pg, program, endless)


def test_an_operations_number_is_plain_digits(pg):
    program = pg.jit(lambda x: x * 2).program(1.0)
    with pytest.raises(ValueError, match="strange.pygrad: not a program, or a damaged one: an operation has no number"):
        changed(pg, program, lambda header, arrays: header["operations"].update({"²": "add"}))


@pytest.mark.parametrize("key", [(1, 2), None, True], ids=str)
def test_keys_that_a_file_would_not_give_back_are_refused_when_it_is_saved(pg, tmp_path, key):
    program = pg.jit(lambda d: d[key] * 2).program({key: 1.0})
    with pytest.raises(ValueError, match="the program cannot be saved: the key"):
        program.save(tmp_path / "f.pygrad")
    assert not (tmp_path / "f.pygrad").exists()


# ---- Pickles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"name": ["add"]},
        {"name": "input", "operands": ()},
        {"name": "lane", "operands": ()},
        {"name": "lane_sum", "operands": ()},
        {"name": "pair"},
        {"data": "1.0"},
        {"data": None},
        {"data": 10**400},
        {"grad": "1.0"},
        {"grad": []},
        {"param": "x"},
        {"name": "leaky_relu", "operands": 1, "param": None},
        {"operands": 3},
        {"operands": [1.0, 2.0]},
        {"operands": (1.0, 2.0)},
        {"name": "custom", "operands": (None,)},
        {"kind": 3},
        {"kind": object},
    ],
    ids=str,
)
def test_pickles_that_make_no_sense_leave_the_tape_as_it_was(pg, change):
    a, b = pg.Value(1.0), pg.Value(2.0)
    good = {"kind": pg.Value, "name": "add", "data": 3.0, "grad": 0.5, "operands": (a, b), "param": math.nan}
    arguments = {**good, **change}
    if arguments["operands"] == 1:
        arguments["operands"] = (a,)
    order = ("kind", "name", "data", "grad", "operands", "param")
    gc.collect()  # so that garbage of other tests is not freed meanwhile
    before = pg.tape_stats()
    with pytest.raises((TypeError, ValueError), match="node"):
        pg.engine._restore(arguments["kind"], None, *(arguments[name] for name in order[1:]))
    assert pg.tape_stats() == before
    made = pg.engine._restore(pg.Value, None, *(good[name] for name in order[1:]))
    assert (made._op, made.grad, made._prev) == ("+", 0.5, {a, b})


def with_other_numbers(rng, data):
    """A program's file with some numbers changed, mostly to small ones or to others that it has."""
    magic, length, rest = data.split(b"\n", 2)
    start = len(data) - len(rest) + int(length)
    words = memoryview(bytearray(data[start : start + (len(data) - start) // 4 * 4])).cast("I")
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(len(words))
        kinds = [
            rng.randrange(12),
            rng.choice(words),
            words[at] ^ 1 << rng.randrange(8),
            2**31 + rng.randrange(4),
            2**32 - 1,
        ]
        words[at] = rng.choice(kinds)
    header = json.loads(rest[: int(length)])
    header["names"] = [rng.choice([name, name, "%0", "%1", "2.0", "x"]) for name in header["names"]]
    text = json.dumps(header).encode()
    return b"%s\n%d\n%s%s" % (magic, len(text), text, bytes(words) + data[start + 4 * len(words) :])


def programs(pg):
    """Files of programs of every kind of instruction."""
    np = pytest.importorskip("numpy")
    jit, m = pg.jit, pg.math
    lanes, row = np.linspace(-1, 1, 6).reshape(3, 2), np.array([0.5, -0.25])

    def loss(w, x):
        return ((w * x).sum().tanh() - x[0]).exp() * w[0]

    made = [
        jit(lambda x, y: [m.tanh(x * y) ** 3, -y, x - 2.0, m.maximum(x, y), pg.where(x > y, x, 1.0)]).program(1.5, 2.0),
        jit(lambda w, b: {"a": [w[0] * w[1] + w[2] * w[3] + b * w[4] + 1.0], "b": (w[5], b)}).program(np.ones(6), 1.0),
        jit(lambda w, x: [pg.vmap(loss, (None, 0), reduce=how)(w, x) for how in ("mean", None)]).program(row, lanes),
        pg.value_and_grad(lambda w: pg.vmap(lambda x: loss(w, x) * w[1], reduce="sum")(lanes)).program(row),
        jit(lambda t: {key: m.exp(m.sin(x)) for key, x in t.items()}).program({"p": 0.1, "%3": 0.2, "2.0": 0.3}),
    ]  # fmt: skip
    return [pg._program.files.to_bytes(program.code) for program in made]


def test_damaged_programs_that_load_can_be_listed_drawn_and_written_as_c(pg, rng, tmp_path):
    loaded, sources = 0, []
    files = programs(pg)
    listing, text = sys.modules["pygrad._program.listing"], pg._core.text
    for number in range(1_500 if "LONG" not in os.environ else 200_000):
        try:
            program = pg.Program(
                pg._program.files.from_bytes(with_other_numbers(rng, files[number % len(files)]), "strange.pygrad"),
            )
        except ValueError:
            continue
        loaded += 1
        found = list(listing.steps(program.code))
        lines = str(program).splitlines()
        assert all(line.isprintable() for line in lines)
        assert sum(line.startswith("  ") for line in lines) == len(found)
        source = pg.draw_dot(program).source
        assert source.count("[label=") == len(found) + len(
            {s for step in found for s in step.sources if s[0] != "result"}
        )
        assert source.count(" -> ") == sum(len(step.sources) for step in found)
        try:
            sources.append(program.to_c(f"f{number}"))
        except ValueError as error:
            assert "cannot be written as C" in str(error)
        assert text.visible(repr(program)) == repr(program)
    print(f"{loaded} loaded, {len(sources)} as C")
    assert loaded > 150 and len(sources) > 100
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is not None:
        paths = [tmp_path / f"{i}.c" for i in range(25)]
        for path, source in zip(paths, rng.sample(sources, len(paths))):
            path.write_text(source)
        flags = ["-std=c99", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-unused", "-pedantic-errors", "-Werror"]
        subprocess.run([compiler, *flags, *paths], check=True)


def place_of(pg, header, wanted):
    """Where in a file's numbers an array of the program's parts begins."""
    names = list(pg._program.code.ARRAYS)
    sizes = {name: pg._core.layer.ffi.sizeof(kind) for name, (_, kind) in pg._program.code.ARRAYS.items()}
    before = names[: names.index(wanted)]
    return sum(sizes[name] * pg._program.code.count_of(name, header["counts"]) for name in before)


def test_lanes_of_scalars_cannot_be_written_as_c(pg):
    np = pytest.importorskip("numpy")
    program = pg.jit(lambda a, x, b, c: pg.vmap(lambda t: t * a * b * c)(x)).program(1.0, np.ones(3), 1.0, 1.0)

    def of_scalars(header, arrays):
        at = place_of(pg, header, "lane_inputs")
        array, *rest = struct.unpack("<IxxxxQQ", arrays[at : at + 24])
        assert (array, *rest) == (1, 0, 1)
        arrays[at : at + 4] = struct.pack("<I", 0)

    strange = changed(pg, program, of_scalars)
    assert strange(2.0, np.ones(3), 3.0, 4.0).tolist() == [48.0, 72.0, 96.0]
    assert "scalars[0 + 1*lane]" in str(strange)
    with pytest.raises(ValueError, match="cannot be written as C"):
        strange.to_c("f")


def test_what_a_file_claims_costs_no_more_than_what_is_shown(pg):
    pytest.importorskip("numpy")
    program = pg.jit(lambda x: x * 2.0).program(1.0)
    claimed = 30_000_000  # which took minutes

    def huge(header, arrays):
        header["arguments"] = ["tuple", "scalar", ["array", [claimed]]]
        header["names"] = ["x", "y"]
        header["counts"]["uniform_registers"] = claimed
        header["counts"]["input_count"] = 2
        at = place_of(pg, header, "inputs")
        (register,) = struct.unpack("<I", arrays[at : at + 4])
        arrays[at + 24 : at + 24] = struct.pack("<IIQQ", register + 1, 1, 0, claimed - register - 1)

    strange = changed(pg, program, huge)
    assert len(str(strange)) < 1000 and len(strange.to_c("f")) < 2000 and len(pg.draw_dot(strange).source) < 2000
