"""A reverse proxy that counts the requests that reach the AWS of the sandbox.

Only for counting: what runs through it is never timed.
"""
import asyncio
import threading


class Counter:
    """Listens on a free port of 127.0.0.1 and hands everything on to `target`; `count` only grows."""

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("http://").rsplit(":", 1)
        self.target = (host, int(port))
        self.count = 0
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self.work, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait()

    def work(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        ready.set()
        self.loop.run_forever()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            upstream, forward = await asyncio.open_connection(*self.target)
        except OSError:
            answer.close()
            return
        back = asyncio.ensure_future(pump(upstream, answer))
        try:
            while await self.one_request(client, forward):
                self.count += 1
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            forward.close()
            await back

    async def one_request(self, client: asyncio.StreamReader, forward: asyncio.StreamWriter) -> bool:
        """Hands one request on, byte for byte, so that it is known where the next one begins."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = await client.readline()
            if not line:
                return False
            head += line
        forward.write(head)
        lower = head.lower()
        if b"\r\ntransfer-encoding: chunked" in lower:
            await chunks(client, forward)
        elif b"\r\ncontent-length:" in lower:
            rest = int(lower.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
            while rest > 0:
                part = await client.read(min(rest, 1 << 16))
                if not part:
                    return False
                forward.write(part)
                await forward.drain()
                rest -= len(part)
        await forward.drain()
        return True


async def chunks(client: asyncio.StreamReader, forward: asyncio.StreamWriter) -> None:
    while True:
        line = await client.readline()
        size = int(line.split(b";")[0], 16)
        forward.write(line + await client.readexactly(size + 2))
        await forward.drain()
        if size == 0:
            return


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while part := await source.read(1 << 16):
            sink.write(part)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()
