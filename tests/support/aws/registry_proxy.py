"""An HTTP forward proxy that puts ECR's host names on the loopback interface.

    python registry_proxy.py --fd N --upstream 127.0.0.1:PORT

An unmodified registry client tries https first and then http, if it is configured to accept an insecure registry. With
this proxy in its environment, the first attempt (CONNECT) is refused at once, and the second reaches the emulation, which
reads account and region from the Host header. Any other host is refused: tests connect to no other system.

Standard library only. One connection serves one request: `Connection: close` both ways.
"""

import argparse
import asyncio
import contextlib
import re
import socket

ECR = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?(:\d+)?")
LARGEST_HEAD = 64 * 1024


class Refused(Exception):
    pass


async def handle(reader, writer, upstream):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        to_server = forwarded(head)
    except Refused as refused:
        await answer(writer, "403 Forbidden", str(refused))
        return
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        await answer(writer, "400 Bad Request", "this is not a request to a proxy")
        return
    try:
        server_reader, server_writer = await asyncio.open_connection(*upstream)
    except OSError as error:
        await answer(writer, "502 Bad Gateway", f"the emulation does not answer: {error}")
        return
    server_writer.write(to_server)
    upload = asyncio.ensure_future(copy(reader, server_writer))
    # The server closes the connection after its answer, whether or not it has read the entire body.
    await copy(server_reader, writer)
    upload.cancel()
    for each in (writer, server_writer):
        each.close()


def forwarded(head):
    """Returns the request's head for the emulation. Raises Refused unless it is a plain request to ECR."""
    lines = head.decode("latin-1").split("\r\n")
    method, target, version = lines[0].split(" ")
    if method == "CONNECT":
        raise Refused("this proxy does not support TLS; use http")
    url = re.fullmatch(r"http://([^/]+)(/.*)?", target)
    if not url or not ECR.fullmatch(url[1]):
        raise Refused(f"this proxy leads to ECR only, not to {url[1] if url else target}")
    ours = re.compile(r"(host|connection|proxy-[a-z-]+):", re.IGNORECASE)
    kept = [line for line in lines[1:] if line and not ours.match(line)]
    first = [f"{method} {url[2] or '/'} {version}", f"Host: {url[1]}", "Connection: close"]
    return "\r\n".join([*first, *kept, "", ""]).encode("latin-1")


async def copy(reader, writer):
    with contextlib.suppress(ConnectionError):  # the other side sees its connection end as well
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()


async def answer(writer, status, text):
    body = text.encode() + b"\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    writer.close()


async def serve(fd, upstream):
    async def connected(reader, writer):
        await handle(reader, writer, upstream)

    server = await asyncio.start_server(connected, sock=socket.socket(fileno=fd), limit=LARGEST_HEAD)
    await server.serve_forever()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--fd", type=int, required=True, help="the listening socket")
    arguments.add_argument("--upstream", required=True, help="HOST:PORT of the emulation")
    options = arguments.parse_args()
    host, _, port = options.upstream.rpartition(":")
    asyncio.run(serve(options.fd, (host, int(port))))


if __name__ == "__main__":
    main()
