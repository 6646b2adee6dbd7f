"""The command line for `make e2e` and its driver: `python -m node`, in tests/support."""

import argparse
import sys
from pathlib import Path

import stack
from node import cluster, images, isolation, kind, packages


def main():
    arguments = argparse.ArgumentParser(prog="python -m node", description=__doc__)
    commands = arguments.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run a command in its own namespaces, which end together with all processes in them")
    run.add_argument("--dir", type=Path, required=True, help="the folder for its files; `cluster/node` is removed afterwards")
    run.add_argument("program", nargs=argparse.REMAINDER)

    inside = commands.add_parser("inside")  # the name under which `run` starts itself
    inside.add_argument("program", nargs=argparse.REMAINDER)

    up = commands.add_parser("up", help="start a cluster with a node, print its addresses, run until stdin ends")
    up.add_argument("--dir", type=Path, required=True)
    up.add_argument("--plain-registry", action="append", default=[], help="the host of a registry without a certificate")
    up.add_argument("--kind", action="store_true", help="use kind, in Docker")

    image = commands.add_parser("image", help="build a container image: the operator's, a workload's or a client's")
    image.add_argument("what", choices=["operator", "workload", "client"])
    image.add_argument("--archive", required=True)
    image.add_argument("--name", required=True, help="the name of the image; for the operator's, only the tag")
    image.add_argument("from_what", nargs="*", help="the binary (operator), a text (workload), or crane and the credential provider (client)")

    options = arguments.parse_args()
    if getattr(options, "program", [])[:1] == ["--"]:
        del options.program[0]
    try:
        sys.exit(carry_out(options))
    except (packages.Failure, images.Failure, stack.Failure) as failure:
        print(f"node: {failure}", file=sys.stderr)
        sys.exit(1)


def carry_out(options):
    match options.command:
        case "run":
            packages.ensure()
            stack.installed(cluster.Cluster.PROGRAMS)  # while a network is available
            with stack.only_one(options.dir.absolute()):
                return isolation.run(options.program, [options.dir.absolute() / "cluster" / "node"])
        case "inside":
            return isolation.inside(options.program)
        case "up" if options.kind:
            kind.up(options.dir.absolute(), options.plain_registry)
        case "up" if not isolation.is_inside():
            raise stack.Failure("this must run in `python -m node run`: outside, it would leave mounts and processes behind")
        case "up":
            cluster.up(options.dir.absolute(), options.plain_registry)
        case "image":
            make = getattr(images, options.what)
            name = options.name
            {
                "operator": lambda: make(options.from_what[0], options.archive, name),
                "workload": lambda: make(options.archive, name, options.from_what[0]),
                "client": lambda: make(options.archive, name, *options.from_what),
            }[options.what]()
    return 0


if __name__ == "__main__":
    main()
