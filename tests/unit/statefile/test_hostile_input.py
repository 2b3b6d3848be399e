"""Input that is no state at all gives one problem with a place, and no other exception, in bounded time and memory."""

from __future__ import annotations

import gzip
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.statefile import document, load, native, problems, source
from sgdataplane.statefile.document import Syntax
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.source import SourceText
from tests.unit.statefile.documents import load_text, refusals

SYNTAX = "InvalidDocument.Malformed"
EXTRA = "InvalidDocument.Unsupported"
BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
NEST = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 40))
TEXTS = (
    ("truncated JSON", "s.json", '{"version": 1,\n "vpcs": [', SYNTAX, 2, "", "not JSON: expecting value"),
    ("JSON with a comma too many", "s.json", '{"vpcs": [],}', SYNTAX, 1, "", "not JSON: "),
    ("JSON of two documents", "s.json", "{}\n{}", SYNTAX, 2, "", "not JSON: extra data"),
    ("JSON in single quotes", "s.json", "{'vpcs': []}", SYNTAX, 1, "", "not JSON: "),
    ("a tab in a JSON string", "s.json", '{"vpcs":\n "\t"}', SYNTAX, 2, "", "not JSON: invalid control character"),
    ("not a number", "s.json", '{\n"version": NaN}', SYNTAX, 2, "", "not JSON: NaN is not a number"),
    ("infinity", "s.json", '{"version":\n\n-Infinity}', SYNTAX, 3, "", "not JSON: -Infinity is not a number"),
    ("number of 5,000 digits", "s.json", '{\n"version": ' + "9" * 5000 + "}", SYNTAX, 2, "", "too many digits"),
    ("duplicate JSON key", "s.json", '{"vpcs": [{"vpc_id": "a",\n"vpc_id": "b"}]}', "InvalidDocument.DuplicateKey", 2,
     "/vpcs/0/vpc_id", "the mapping has this key twice"),
    ("duplicate JSON key with escapes", "s.json", '{"a/b~": 1,\n"a\\u002fb~": 2}', "InvalidDocument.DuplicateKey", 2,
     "/a~1b~0", "the mapping has this key twice"),
    ("deep JSON", "s.json", '{"a":\n' + "[" * 100_000, "InvalidDocument.TooDeep", 2, "", "nested too deeply"),
    ("YAML that isn't", "s.yaml", "vpcs: []\n  x: 1", SYNTAX, 2, "", "not YAML: "),
    ("a tab as YAML indentation", "s.yaml", "vpcs:\n\t- a", SYNTAX, 2, "", "not YAML: "),
    ("a YAML control character", "s.yaml", "vpcs: []\nx: \x01", SYNTAX, 2, "", "control characters are not allowed"),
    ("duplicate YAML key", "s.yaml", "vpcs:\n  - vpc_id: a\n    vpc_id: b", "InvalidDocument.DuplicateKey", 3,
     "/vpcs/0/vpc_id", "the mapping has this key twice"),
    ("alias bomb", "s.yaml", BOMB, "InvalidSource.TooLarge", 21, "", "the aliases stand for too many values"),
    ("alias in its own anchor", "s.yaml", "vpcs: &x\n- *x", SYNTAX, 2, "", "the alias *x stands for nothing"),
    ("alias without an anchor", "s.yaml", "vpcs: []\nx: *x", SYNTAX, 2, "", "the alias *x stands for nothing"),
    ("aliases that nest too deeply", "s.yaml", NEST, "InvalidDocument.TooDeep", 24, "", "nested too deeply"),
    ("key by alias that is a list", "s.yaml", "vpcs: &a []\n*a : 1", SYNTAX, 2, "", "a key is not text"),
    ("merge of text", "s.yaml", "vpcs:\n- <<: a", SYNTAX, 3, "", "<< names something else than mappings"),
    ("two merge keys", "s.yaml", "a: &a {}\nb:\n  <<: *a\n  <<: *a", "InvalidDocument.DuplicateKey", 4, "/b/<<",
     "the mapping has this key twice"),
    ("tag", "s.yaml", "vpcs: !!python/object:os.system x", EXTRA, 1, "", "tags are not supported"),
    ("tag on a mapping", "s.yaml", "vpcs:\n- !x {a: b}", EXTRA, 2, "", "tags are not supported"),
    ("key that is a list", "s.yaml", "vpcs: []\n? [a]\n: 1", SYNTAX, 2, "", "a key is not text"),
    ("two YAML documents", "s.yaml", "vpcs: []\n---\nvpcs: []", SYNTAX, 2, "", "the file has a second document"),
    ("deep YAML", "s.yaml", "vpcs:\n " + "[" * 60, "InvalidDocument.TooDeep", 2, "", "nested too deeply"),
    ("very deep YAML", "s.yaml", "vpcs:\n " + "[" * 100_000, SYNTAX, 2, "", "not YAML: "),
    ("a list at the top", "s.yaml", "- vpc", "InvalidDocument.WrongType", 1, "", "the document is not a mapping"),
    ("text at the top", "s.yaml", "hello", "InvalidDocument.WrongType", 1, "", "the document is not a mapping"),
    ("a number at the top", "s.json", "5", "InvalidDocument.WrongType", 1, "", "the document is not a mapping"),
    ("nothing", "s.yaml", "", "InvalidDocument.Empty", 0, "", "the file is empty"),
    ("only space", "s.json", " \n\n", "InvalidDocument.Empty", 0, "", "the file is empty"),
    ("only a comment", "s.yaml", "# nothing\n", "InvalidDocument.WrongType", 1, "", "the document is not a mapping"),
    ("an empty mapping", "s.json", "{}", "InvalidDocument.Empty", 0, "", "the file is empty"),
    ("NUL byte", "s.yaml", "vpcs: []\n\0", SYNTAX, 2, "", "the file has a NUL byte"),
    ("half a surrogate pair", "s.json", '{"instances": [{"instance_id": "i",\n"instance_name": "\\ud800"}]}',
     "InvalidDocument.NotUtf8", 2, "/instances/0/instance_name", "holds half of a surrogate pair"),
    ("null", "s.yaml", "vpcs: ~", "InvalidDocument.WrongType", 1, "/vpcs", "the value has the wrong type"),
)  # fmt: skip


@pytest.mark.parametrize("row", TEXTS, ids=[row[0] for row in TEXTS])
def test_text_that_is_no_state_is_refused(row: tuple[str, str, str, str, int, str, str], tmp_path: Path) -> None:
    _, name, text, code, line, pointer, message = row
    (problem,) = refusals(tmp_path, text, name=name)
    assert (problem.code, problem.where) == (code, Where(str(tmp_path / name), line, pointer))
    assert message in problem.message


BYTES = (
    ("latin-1", "vpcs: []\n# é".encode("latin-1"), 2, "byte 0xe9 at offset 11"),
    ("UTF-16", '{"version": 1}'.encode("utf-16"), 1, "byte 0xff at offset 0"),
    ("random", bytes(range(128, 256)), 1, "byte 0x80 at offset 0"),
)


@pytest.mark.parametrize(("data", "line", "value"), [row[1:] for row in BYTES], ids=[row[0] for row in BYTES])
def test_bytes_that_are_not_utf8_are_refused(data: bytes, line: int, value: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(data)
    (problem,) = problems_of(path)
    assert (problem.code, problem.where, problem.value) == ("InvalidDocument.NotUtf8", Where(str(path), line), value)


def problems_of(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(StateFileError) as caught:
        load(path)
    return caught.value.problems


@pytest.mark.parametrize("name", ["s.yaml", "s.json"])
def test_a_byte_order_mark_is_no_harm(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b'\xef\xbb\xbf{"vpcs": [{"vpc_id": "vpc-a"}]}')
    assert [vpc.vpc_id for vpc in load(path).state.vpcs] == ["vpc-a"]


PACKED = gzip.compress(b'{"vpcs": [{"vpc_id": "vpc-a"}]}', mtime=0)


@pytest.mark.parametrize("name", ["s.yaml.gz", "s.json.gz", "s.json", "s"])
def test_a_packed_file_is_read_whatever_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(PACKED)
    assert list(load(tmp_path / name).state.vpc) == ["vpc-a"]


def test_packed_files_of_a_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(PACKED)
    (tmp_path / "b.yaml").write_text("vpcs: [{vpc_id: vpc-b}]")
    (tmp_path / "other.gz").write_bytes(b"no state")
    assert list(load(tmp_path).state.vpc) == ["vpc-a", "vpc-b"]


@pytest.mark.parametrize("data", [PACKED[:-9], PACKED[:-6] + b"\0" * 6, PACKED[:3] + b"\xff" * 20, PACKED[:12]])
def test_a_damaged_packed_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.json.gz"
    path.write_bytes(data)
    (problem,) = problems_of(path)
    assert (problem.code, problem.message, problem.where) == (SYNTAX, "the packed file is damaged", Where(str(path)))


def test_a_packed_file_that_is_large_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_FILE_BYTES", 1000)
    path = tmp_path / "s.json.gz"
    for size, code in ((900, "InvalidDocument.WrongType"), (100_000, "InvalidSource.TooLarge")):
        path.write_bytes(gzip.compress(b'"' + b"x" * size + b'"', mtime=0))
        assert path.stat().st_size < 1000
        assert [problem.code for problem in problems_of(path)] == [code]


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_nothing(path: Path) -> None:
    assert not path.exists()


PLACES = (
    ("missing file", make_nothing, "InvalidSource.NotFound", "no such file or directory"),
    ("dangling link", lambda path: path.symlink_to("nowhere"), "InvalidSource.NotFound", "no such file or directory"),
    ("symlink loop", make_loop, "InvalidSource.Unreadable", "too many levels of symbolic links"),
    ("pipe", make_fifo, "InvalidSource.NotAFile", "this is a pipe or a device"),
    ("socket", make_socket, "InvalidSource.Unreadable", "no such device or address"),
    ("device", lambda path: path.symlink_to("/dev/zero"), "InvalidSource.NotAFile", "this is a pipe or a device"),
    ("empty folder", Path.mkdir, "InvalidSource.EmptyFolder", "the folder holds no state"),
)


@pytest.mark.parametrize(("make", "code", "message"), [row[1:] for row in PLACES], ids=[row[0] for row in PLACES])
def test_a_place_without_a_state_is_refused(
    make: Callable[[Path], None], code: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    make(path)
    (problem,) = problems_of(path)
    assert (problem.code, problem.where, problem.message) == (code, Where(str(path)), message)


def test_a_folder_named_like_a_state_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").mkdir()
    (problem,) = problems_of(tmp_path)
    assert (problem.code, problem.message) == ("InvalidSource.Unreadable", "is a directory")


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("version: 1", encoding="utf-8")
    (problem,) = problems_of(tmp_path / "s.yaml" / "t.yaml")
    assert (problem.code, problem.message) == ("InvalidSource.Unreadable", "not a directory")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("version: 1", encoding="utf-8")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(source, "open_without_waiting", refuse)  # root may read every file
    (problem,) = problems_of(path)
    assert (problem.code, problem.message) == ("InvalidSource.NotReadable", "permission denied")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    with path.open("wb") as stream:
        stream.truncate(100_000_000)  # sparse: it takes no room on the disk
    (problem,) = problems_of(path)
    assert (problem.code, problem.value) == ("InvalidSource.TooLarge", "100000000")
    assert problem.expected == "at most 67108864 bytes in a file, 268435456 in all files together"


def test_files_that_are_huge_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 20)
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("version: 1 #", encoding="utf-8")
    (problem,) = problems_of(tmp_path)
    assert (problem.code, problem.where.file) == ("InvalidSource.TooLarge", str(tmp_path / "b.yaml"))


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_FILES", 1)
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("version: 1", encoding="utf-8")
    (problem,) = problems_of(tmp_path)
    assert (problem.code, problem.value, problem.expected) == ("InvalidSource.TooLarge", "2", "at most 1 files")


def test_a_list_of_too_many_objects_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "MAX_OBJECTS", 2)
    (problem,) = refusals(tmp_path, "vpcs:\n- {vpc_id: a}\n- {vpc_id: b}\n- {vpc_id: c}\n")
    assert (problem.code, problem.where.line, problem.where.pointer) == ("InvalidSource.TooLarge", 1, "/vpcs")
    assert (problem.value, problem.expected) == ("3", "at most 2 elements")


@pytest.mark.parametrize(
    ("count", "last"),
    [(100, "the value has the wrong type"), (101, "more problems than these 100"), (9999, "reading stopped here")],
)
def test_the_first_hundred_problems_are_kept_and_more_are_mentioned(count: int, last: str, tmp_path: Path) -> None:
    found = refusals(tmp_path, "vpcs:\n" + "- x\n" * count)
    assert len(found) == min(count, 101)
    assert last in found[-1].message
    assert found[99].where == Where(str(tmp_path / "state.yaml"), 101, "/vpcs/99")


WRONG = ("0", "{}", '{"a":0}', '{"vpc_id":""}')


@pytest.mark.parametrize("name", ["s.json", "s.yaml"])
@pytest.mark.parametrize("section", ["vpcs", "security_groups", "network_interfaces"])
@pytest.mark.parametrize("element", WRONG)
def test_reading_stops_after_a_hundred_problems(
    element: str, section: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are 50,000 wrong elements: only a few more are looked at, and the walk for lines passes a few thousand."""
    looked, walked = Counter[str](), Counter[str]()
    monkeypatch.setattr(native, "check_keys", counting(looked, native.check_keys))
    syntax_of = document.syntax_of

    def counted(source: SourceText) -> Syntax:
        syntax = syntax_of(source)
        return syntax._replace(walk=counting_steps(walked, syntax.walk))

    monkeypatch.setattr(document, "syntax_of", counted)
    found = refusals(tmp_path, f'{{"{section}": [' + ",\n".join([element] * 50_000) + "]}", name=name)
    assert (len(found), found[-1].code) == (101, "InvalidDocument.TooManyProblems")
    assert [problem.where.line for problem in found[:100]] == sorted(problem.where.line for problem in found[:100])
    assert found[99].where.line > 20
    assert (looked.total() <= 102, walked.total() <= 2 * document.LOOK_UP) == (True, True)


def counting(counter: Counter[str], call: Callable[..., None]) -> Callable[..., None]:
    def counted(*arguments: object) -> None:
        counter["calls"] += 1
        call(*arguments)

    return counted


def counting_steps(
    counter: Counter[str], walk: Callable[[str], Iterable[tuple[str, int]]]
) -> Callable[[str], Iterator[tuple[str, int]]]:
    def counted(text: str) -> Iterator[tuple[str, int]]:
        for step in walk(text):
            counter["steps"] += 1
            yield step

    return counted


@pytest.mark.parametrize(("name", "text"), [("s.json", '{"vpcs": [0, 0]}'), ("s.yaml", "vpcs:\n- - 0\n  - 0\n")])
def test_a_text_of_too_many_values_is_refused_before_it_is_parsed(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "MAX_VALUES", 2)
    (problem,) = refusals(tmp_path, text, name=name)
    assert (problem.code, problem.where) == ("InvalidSource.TooLarge", Where(str(tmp_path / name)))
    assert problem.expected == "at most 2 values, in all files together"


def test_a_long_or_unprintable_value_is_shown_on_one_short_line(tmp_path: Path) -> None:
    (problem,) = refusals(tmp_path, '{"vpcs": [{"vpc_id": "a\\nb\\u001b' + "c" * 200 + '"}]}', name="s.json")
    assert problem.value == "a\\nb\\x1b" + "c" * 69 + "..."


def test_an_unreadable_file_does_not_hide_what_is_wrong_in_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    (tmp_path / "b.yaml").write_text(
        "vpcs: [{}]\nsecurity_groups: [{security_group_id: g, vpc_id: v}]\n", encoding="utf-8"
    )
    found = [(Path(problem.where.file).name, problem.code) for problem in problems_of(tmp_path)]
    # That vpc v is unknown is not reported: it may be in a.json.
    assert found == [("a.json", "InvalidDocument.Malformed"), ("b.yaml", "MissingParameter.VpcId")]


SURPRISES = (
    ("sexagesimal MAC", "mac_address: 00:16:30:00:00:01", "00:16:30:00:00:01"),
    ("MAC of digits that YAML 1.1 takes for a number", "mac_address: 10:16:30:00:00:01", "10:16:30:00:00:01"),
    ("MAC with an e", "mac_address: 00:1e:30:00:00:01", "00:1e:30:00:00:01"),
)


@pytest.mark.parametrize(("mac", "expected"), [row[1:] for row in SURPRISES], ids=[row[0] for row in SURPRISES])
def test_a_mac_without_quotes_is_text(mac: str, expected: str, tmp_path: Path) -> None:
    eni = f"{{network_interface_id: e, vpc_id: v, private_ip_addresses: [10.0.0.1], security_group_ids: [g], {mac}}}"
    text = (
        f"vpcs: [{{vpc_id: v}}]\nsecurity_groups: [{{security_group_id: g, vpc_id: v}}]\nnetwork_interfaces: [{eni}]\n"
    )
    assert load_text(tmp_path, text).state.network_interfaces[0].mac_address == expected


def test_words_that_older_yaml_takes_for_booleans_are_text(tmp_path: Path) -> None:
    text = "instances: [{instance_id: no, instance_name: yes}, {instance_id: on}, {instance_id: y}]"
    assert [entry.instance_id for entry in load_text(tmp_path, text).state.instances] == ["no", "on", "y"]


def test_problems_can_be_kept_without_a_file() -> None:
    kept = Problems()
    kept.add(Where(), "Code", "message")
    assert str(kept.as_error()) == "Code: message"
