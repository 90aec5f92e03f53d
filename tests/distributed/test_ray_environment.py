"""A local Ray starts whatever the project, the temporary folder and the home are like."""

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from nasty import NAMES
from tiny_project import ROOT, changed, cluster_config, composed

from rhs.datasets.raw_folder import folder_name
from rhs.distributed import ray_cluster, ray_environment
from rhs.errors import UserError
from rhs.run import identify
from rhs.storage.store import open_store


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def short(tmp_path_factory, monkeypatch):
    """A short folder in the place of /tmp."""
    folder = Path("/tmp", f"rhs{os.getpid()}")
    folder.mkdir()
    monkeypatch.setattr(ray_environment, "ELSEWHERE", (str(folder),))
    yield folder
    folder.rmdir()


def test_a_folder_that_does_is_taken(short, monkeypatch, capsys):
    assert ray_environment.temporary_folder() == f"{short}/ray"
    for name in ("TMPDIR", "RAY_TMPDIR"):  # the latter counts more
        (own := short / name).mkdir()
        monkeypatch.setenv(name, str(own))
        assert ray_environment.temporary_folder() == f"{own}/ray"
        own.rmdir()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("x" * 60, "is too long for sockets"),
        ("é" * 30, "is too long for sockets"),
        ("missing", "is no folder"),
        ("file", "is no folder"),
    ],
)
def test_another_folder_is_used_and_told(short, tmp_path, monkeypatch, capsys, name, why):
    folder = tmp_path / name
    if name == "file":
        folder.write_text("")
    elif name != "missing":
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    assert ray_environment.temporary_folder() == f"{short}/ray"
    said = capsys.readouterr().err
    assert said.startswith(f"note: TMPDIR is '{folder}', which {why}")
    assert said.endswith(f"Ray uses {short}/ray\n")
    assert said.count("\n") == 1
    monkeypatch.setenv("RAY_TMPDIR", str(folder))  # somebody's own choice
    with pytest.raises(UserError, match=f"RAY_TMPDIR is .*{why}.*at most 39 bytes"):
        ray_environment.temporary_folder()


def test_a_full_disk_and_one_that_is_another_users(short, small_disk, monkeypatch, capsys):
    (disk := short / "disk").symlink_to(small_disk("20k"))  # its own path is long
    monkeypatch.setenv("TMPDIR", str(disk))
    assert ray_environment.temporary_folder() == f"{short}/ray"
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    disk.unlink()
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(
        ray_environment, "_why_not", lambda folder: "x" if folder.endswith("/ray") else None
    )
    assert ray_environment.temporary_folder() == f"{short}/ray-{os.getuid()}"


def test_no_folder_at_all(monkeypatch):
    monkeypatch.setattr(ray_environment, "ELSEWHERE", ("/nowhere",))
    with pytest.raises(UserError, match="the temporary folder is '/nowhere', which is no folder"):
        ray_environment.temporary_folder()


def test_names_of_any_length_fit_their_sockets():
    longest = "/session_2026-11-30_22-24-56_123456_4194304/sockets/plasma_store"
    assert len("a" * ray_environment.SOCKET + longest) == 107


def test_the_token_is_not_written_to_the_home(tmp_path, monkeypatch):
    """In a process of its own, as Ray reads a token once."""
    code = (
        "from rhs.distributed.ray_environment import give_token; import os; give_token();"
        "from ray._raylet import AuthenticationTokenLoader as Loader;"
        "assert Loader.instance().has_token(ignore_auth_mode=True);"
        "print(len(os.environ['RAY_AUTH_TOKEN']), os.listdir(os.environ['HOME']))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert int(done.stdout.split()[0]) >= 32
    assert done.stdout.split()[1] == "[]"


def test_a_home_that_is_not_known(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setenv("HOME", "")
    ray_environment.find_home()
    assert os.environ["HOME"] == "/"


@pytest.mark.parametrize("name", ["plain", *(name for name in NAMES if "x" * 20 not in name)])
def test_commands_and_pythons_path_keep_their_words(monkeypatch, name):
    python = f"/opt/{name}/bin/python"
    monkeypatch.setattr(sys, "executable", python)
    before = subprocess.list2cmdline
    with ray_environment.commands_for_ray("/opt/ray"):
        line = subprocess.list2cmdline([python, "-m", "x"])
        assert (subprocess.list2cmdline is before) == (shlex.quote(python) == python)
    if shlex.quote(python) != python:
        assert shlex.split(line) == [python, "-m", "x"]
    assert subprocess.list2cmdline is before
    told = ray_environment.executable().get("py_executable", python)
    assert shlex.split(told) == [python]


def test_ray_is_told(monkeypatch):
    import ray

    told = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **settings: told.update(settings))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray_cluster, "give_token", lambda: None)
    monkeypatch.setattr(sys, "executable", "/opt/My Project/python")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    ray_cluster.connect(cluster_config(num_cpus=2))
    assert told["_temp_dir"] == "/tmp/ray"
    assert told["runtime_env"]["py_executable"] == "'/opt/My Project/python'"


def test_a_project_and_a_source_whose_path_is_not_utf_8(tmp_path, monkeypatch, refused):
    said = refused("fetch", "dataset.source=caf\udce9.tar")
    assert "dataset.source is 'caf\\udce9.tar', which is not UTF-8" in said
    home = tmp_path / os.fsdecode(b"caf\xe9")
    home.mkdir()
    monkeypatch.chdir(home)
    with pytest.raises(UserError, match="which is not UTF-8: give it another name"):
        ray_environment.check_project()


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "a\x1b[31mb", "a\u202eb", "a\tb"])
def test_a_sentence_is_one_line_whatever_a_file_is_called(refused, name):
    said = refused("fetch", f"dataset.source={name}")
    assert "a\\" in said
    assert "does not exist" in said


def test_a_terminal_that_has_not_the_letters(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "pipelines.fetch", "dataset=folder", "dataset.source=写真"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("error: dataset.source \\u5199\\u771f does not exist")


@pytest.mark.parametrize("name", ["hf-hub:timm/tiny_vit", "x" * 300, "写真" * 100, "a'b\n"])
def test_a_runs_name_is_a_folders(name):
    params = composed("dataset=folder", "model=timm")
    dataset = replace(params.dataset, name="写" * 66)
    params = replace(params, dataset=dataset, model=replace(params.model, name=name))
    run = identify(params, "0" * 64)
    assert "/" not in run.name
    assert "'" not in run.name
    assert len(run.name.encode()) < 240
    params = changed(params, model={"name": "resnet50.a1_in1k"}, dataset={"name": "my-photos"})
    made = identify(params, "0" * 64).name
    assert made.startswith(f"my-photos-{params.method['name']}-resnet50.a1_in1k-")


def test_a_data_sets_name_leaves_room_in_a_folders():
    assert folder_name("写" * 66) == "写" * 66
    with pytest.raises(UserError, match="200 bytes"):
        folder_name("写" * 67)


def test_storage_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/photos (1)").path == tmp_path / "photos (1)"
