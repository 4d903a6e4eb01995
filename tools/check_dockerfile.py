#!/usr/bin/env python3
"""Run the steps of one Dockerfile stage in folders, by chroot, where no docker engine runs.

It executes the COPY and RUN lines of the stage and of the stages that it needs, then the
ENTRYPOINT with --help: as the stage's USER, and as a user id that no file of the image knows.
It needs root, Linux, and a root file system for the base image, for example:

    debootstrap --variant=minbase --include=python3,python3-venv bookworm /tmp/base
    python3 tools/check_dockerfile.py cpu --base /tmp/base --into /tmp/stages

RUN lines see /etc/resolv.conf and pip's configuration only where --share names them.

What it cannot show: the layers, the environment and the packages of the real base image (the
folder stands in for it, and its Python may be another one), the order in which the builder
caches, image sizes after compression, and anything that needs a GPU or another processor.
It reads the instructions that our Dockerfile uses and stops at any other.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STRANGER = "12345:12345"
# Of a final stage only; what the base folder has itself is not the Dockerfile's doing.
UNWANTED = (
    "usr/bin/gcc", "usr/bin/cc", "usr/bin/make", "root/.cache", "home/tcn/.cache", "src",
)  # fmt: skip
# $1 is the root, then what to mount up to "--", then the user and the command. The mounts live
# in a namespace of their own and go when the command ends.
ENTER = """
root=$1; shift
mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do mount --rbind "$1" "$root$1"; shift; done
user=$2; shift 2
exec chroot --userspec="$user" "$root" /usr/bin/env --ignore-environment "$@"
"""


@dataclass(frozen=True)
class Instruction:
    """One line of the file, its continuations joined."""

    word: str
    text: str


@dataclass(frozen=True)
class Stage:
    """FROM base AS name, and what follows."""

    name: str
    base: str
    instructions: tuple[Instruction, ...] = ()


@dataclass(frozen=True)
class Dockerfile:
    """The ARGs before the first FROM, and the stages in order: the last is the default."""

    arguments: dict[str, str]
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage | None:
        """The stage of that name, or none: then the name is an image's."""
        return next((stage for stage in self.stages if stage.name == name), None)


@dataclass(frozen=True)
class Image:
    """A folder that a stage has filled, and the configuration that it left behind."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": SYSTEM_PATH})
    folder: str = "/"
    user: str = "0:0"
    entrypoint: tuple[str, ...] = ()


def parse(text: str, given: dict[str, str] | None = None) -> Dockerfile:
    """Read a Dockerfile; `given` are build arguments, which override defaults."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(name, expand(base, arguments)))
        elif stages:
            last = stages[-1]
            added = (*last.instructions, Instruction(word, rest.strip()))
            stages[-1] = replace(last, instructions=added)
        elif word == "ARG":
            arguments |= argument(rest, given or {})
        else:
            raise SystemExit(f"{word} stands before the first FROM; only ARG may.")
    return Dockerfile(arguments, tuple(stages))


def argument(text: str, given: dict[str, str]) -> dict[str, str]:
    """NAME=DEFAULT of an ARG, with the value that the user gave, if any."""
    name, _, default = text.partition("=")
    return {name: given.get(name, default)}


def expand(text: str, variables: dict[str, str]) -> str:
    """Replace $NAME and ${NAME}."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: variables.get(match[1], ""), text)


def needed(dockerfile: Dockerfile, name: str) -> list[Stage]:
    """The stages that a stage is built from, in order, itself last."""
    stage = dockerfile.stage(name)
    if stage is None:
        return []
    sources = [stage.base]
    for step in stage.instructions:
        sources += re.findall(r"^--from=(\S+)", step.text) if step.word == "COPY" else []
    before = [found for source in sources for found in needed(dockerfile, source)]
    return list(dict.fromkeys([*before, stage]))


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps a file of the context away: the last match decides."""
    parts = path.split("/")
    ways = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    ignored = False
    for line in patterns:
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").rstrip("/")
        anywhere = pattern.removeprefix("**/")
        tails = [way.rpartition("/")[2] for way in ways] if anywhere != pattern else []
        if any(fnmatchcase(way, pattern) for way in ways) or anywhere in tails:
            ignored = not line.startswith("!")
    return ignored


def run(image: Image, command: list[str], shares: list[str], user: str = "0:0") -> int:
    """Run a command inside the image's folder with exactly the image's environment."""
    made = [image.root / share.lstrip("/") for share in shares]
    made = [place for place in made if not place.exists()]
    for share in shares:
        place = image.root / share.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if Path(share).is_dir():
            place.mkdir(exist_ok=True)
        elif not place.exists():
            place.touch()
    pairs = [f"{name}={value}" for name, value in image.environment.items()]
    inside = [*pairs, "sh", "-c", 'cd "$0" && exec "$@"', image.folder, *command]
    enter = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", ENTER, "enter"]
    whole = [*enter, str(image.root), *shares, "--", user, *inside]
    code = subprocess.run(whole, check=False).returncode
    for place in made:
        place.rmdir() if place.is_dir() else place.unlink()
    return code


def copy(image: Image, text: str, into: Path) -> None:
    """COPY [--from=STAGE] SOURCE... TARGET; sources of the context pass .dockerignore."""
    words = shlex.split(text)
    other = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
    *sources, target = words
    place = image.root / target.lstrip("/")
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    for source in sources:
        if other:
            path = into / other / source.lstrip("/")
            shutil.copytree(path, place, symlinks=True, dirs_exist_ok=True)
            continue
        files = [ROOT / source] if (ROOT / source).is_file() else (ROOT / source).rglob("*")
        names = [str(file.relative_to(ROOT)) for file in files if file.is_file()]
        names = [name for name in names if not is_ignored(name, patterns)]
        if not names:
            raise SystemExit(f"COPY {source}: missing, or .dockerignore keeps it away.")
        for name in names:
            inner = Path(name).name if target.endswith("/") else Path(name).relative_to(source)
            (place / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / inner)


def perform(image: Image, step: Instruction, options: argparse.Namespace) -> Image:
    """One instruction; what it leaves behind is the next image."""
    text = expand(step.text, image.environment)
    if step.word == "RUN":
        began = time.monotonic()
        code = run(image, ["/bin/sh", "-c", step.text], options.share)
        print(f"  exit code {code}, {time.monotonic() - began:.0f} s: RUN {step.text[:60]}...")
        if code:
            raise SystemExit(f"The RUN line ended with {code}:\n{step.text}")
    elif step.word == "COPY":
        copy(image, text, options.into)
    elif step.word == "ENV":
        pairs = dict(pair.split("=", 1) for pair in shlex.split(text))
        return replace(image, environment=image.environment | pairs)
    elif step.word == "ARG":
        added = argument(text, options.build_arg)
        return replace(image, environment=image.environment | added)
    elif step.word == "WORKDIR":
        (image.root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return replace(image, folder=text)
    elif step.word == "USER":
        return replace(image, user=text)
    elif step.word == "ENTRYPOINT":
        return replace(image, entrypoint=tuple(re.findall(r'"([^"]*)"', text)))
    elif step.word != "LABEL":
        raise SystemExit(f"{step.word} is not known here; teach tools/check_dockerfile.py.")
    return image


def megabytes(root: Path) -> int:
    """What a folder takes on the disk."""
    listed = subprocess.run(
        ["du", "--summarize", "--block-size=1M", "--one-file-system", str(root)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return int(listed.stdout.split()[0])


def build(dockerfile: Dockerfile, options: argparse.Namespace) -> Image:
    """Fill one folder per needed stage; the chosen stage's image comes back."""
    images: dict[str, Image] = {}
    for stage in needed(dockerfile, options.stage):
        print(f"{stage.name}, from {stage.base}", flush=True)
        image = images.get(stage.base, Image(options.base))
        root = options.into / stage.name
        subprocess.run(["cp", "--archive", "--reflink=auto", image.root, root], check=True)
        image = replace(image, root=root)
        for step in stage.instructions:
            image = perform(image, step, options)
        # An ARG ends with its stage; an ENV of the same name would have been kept.
        names = {step.text.split("=")[0] for step in stage.instructions if step.word == "ARG"}
        kept = {key: value for key, value in image.environment.items() if key not in names}
        images[stage.name] = replace(image, environment=kept)
    return images[options.stage]


def judge(image: Image, base: Path) -> list[str]:
    """What is wrong with a finished stage: users, leftovers, and --help."""
    wrong = [f"{path} is left in the image" for path in UNWANTED
             if (image.root / path).exists() and not (base / path).exists()]  # fmt: skip
    if image.user.split(":")[0] in {"", "0", "root"}:
        wrong.append("the image runs as root")
    for user in (image.user, STRANGER):
        began = time.monotonic()
        code = run(image, [*image.entrypoint, "--help"], [], user)
        seconds = time.monotonic() - began
        print(f"{' '.join(image.entrypoint)} --help as {user}: {code}, {seconds:.1f} s")
        wrong += [f"--help as {user} ended with {code}"] if code else []
        code = run(image, ["sh", "-c", 'touch "$HOME/x" x && rm "$HOME/x" x'], [], user)
        wrong += [f"{user} cannot write to {image.folder} or to HOME"] if code else []
    return wrong


def main() -> int:
    """Parse the options, build, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage")
    parser.add_argument(
        "--base", type=Path, required=True, help="stands in for the base image"
    )
    parser.add_argument(
        "--into", type=Path, required=True, help="a folder per stage goes here"
    )
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--share", action="append", default=[], metavar="PATH",
        help="a file or folder of this machine that RUN lines see (resolv.conf, pip.conf)",
    )  # fmt: skip
    options = parser.parse_args()
    options.build_arg = dict(pair.split("=", 1) for pair in options.build_arg)
    dockerfile = parse((ROOT / "Dockerfile").read_text(), options.build_arg)
    if dockerfile.stage(options.stage) is None:
        names = ", ".join(stage.name for stage in dockerfile.stages)
        parser.error(f"no stage {options.stage!r}; there are {names}")
    options.into.mkdir(parents=True)  # A new one: nothing that is there is touched.
    image = build(dockerfile, options)
    size, base = megabytes(image.root), megabytes(options.base)
    wrong = judge(image, options.base)
    print(f"{options.stage}: {size} MB, of which the base folder {base} MB")
    print("\n".join(["FAILED", *wrong]) if wrong else "passed")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
