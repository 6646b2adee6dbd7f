"""What `make e2e` and its driver ask for: `python -m node`, in tests/support."""

import argparse
import sys
from pathlib import Path

import stack
from node import cluster, images, isolation, kind, packages


def main():
    arguments = argparse.ArgumentParser(prog="python -m node", description=__doc__)
    commands = arguments.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run a command in a machine of its own, with which all that it starts ends")
    run.add_argument("--dir", type=Path, required=True, help="where it may write; `cluster/node` is removed afterwards")
    run.add_argument("program", nargs=argparse.REMAINDER)

    inside = commands.add_parser("inside")  # what `run` calls itself by
    inside.add_argument("program", nargs=argparse.REMAINDER)

    up = commands.add_parser("up", help="start a cluster with a node, print where it is, run until stdin ends")
    up.add_argument("--dir", type=Path, required=True)
    up.add_argument("--plain-registry", action="append", default=[], help="a registry's host that has no certificate")
    up.add_argument("--kind", action="store_true", help="by kind, in Docker")

    image = commands.add_parser("image", help="make a container image: the operator's, a workload's or a client's")
    image.add_argument("what", choices=["operator", "workload", "client"])
    image.add_argument("--archive", required=True)
    image.add_argument("--name", required=True, help="the image's; of the operator's, the tag alone")
    image.add_argument("from_what", nargs="*", help="the binary; a text; crane and the credential provider")

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
            stack.installed(cluster.Cluster.PROGRAMS)  # while there is a network
            with stack.only_one(options.dir.absolute()):
                return isolation.run(options.program, [options.dir.absolute() / "cluster" / "node"])
        case "inside":
            return isolation.inside(options.program)
        case "up" if options.kind:
            kind.up(options.dir.absolute(), options.plain_registry)
        case "up" if not isolation.is_inside():
            raise stack.Failure("this is for `python -m node run`: here it would leave traces")
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
