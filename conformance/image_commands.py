"""`python -m conformance images`: which images a run needs, building ours, and carrying it elsewhere."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from conformance.cluster import images
from conformance.errors import InputError

__all__ = ["add_images"]


def add_images(commands: Any) -> None:
    command = commands.add_parser("images", help="the images that a run needs: list, build, save")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="each image and what it is for")
    listing.add_argument("--format", choices=["table", "json"], default="table")
    listing.set_defaults(call=print_list)
    build = actions.add_parser("build", help="build the suite's image (needs docker); prints its name")
    build.add_argument("--revision", default="unknown", help="for the label, a commit")
    build.add_argument("--source", default="unknown", help="for the label, a URL")
    base = "another base image, with Python 3.11 and its module venv"
    build.add_argument("--base", default="", metavar="IMAGE", help=base)
    build.set_defaults(call=build_image)
    save = actions.add_parser("save", help="write the suite's image to an archive (docker load, ctr import)")
    save.add_argument("archive", type=Path, metavar="FILE")
    save.add_argument("--platform", default="", help="linux/amd64 or linux/arm64 (default: this machine's)")
    save.set_defaults(call=save_image)


def print_list(options: argparse.Namespace) -> int:
    rows = images.listed()
    if options.format == "json":
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(f"{row['image']}  # {row['for']}")
    return 0


def build_image(options: argparse.Namespace) -> int:
    from conformance.campaign_options import suite_version
    from conformance.cluster.kind import check_docker

    check_docker()
    print("building, a few minutes at first ...", file=sys.stderr)
    print(
        images.build(
            version=suite_version(), revision=options.revision, source=options.source, base=options.base
        )
    )
    return 0


def save_image(options: argparse.Namespace) -> int:
    from conformance.cluster.kind import check_docker

    check_docker()
    if not options.archive.absolute().parent.is_dir():
        raise InputError(f"there is no directory {options.archive.absolute().parent}")
    if not images.is_here(images.LOCAL):
        raise InputError(f"Docker has no image {images.LOCAL}", hint="make image")
    images.save([images.LOCAL], options.archive, machine=options.platform)
    print(options.archive)
    return 0
