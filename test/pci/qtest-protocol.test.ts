/**
 * The qtest line protocol against a model of its other end, which does what QEMU never should: answers out of turn, cut lines, garbage,
 * silence. (QEMU itself: test/qtest.)
 */
import { createServer, type Server, type Socket } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { QtestLink } from '../../src/pci/qtest/protocol.ts';
import { until } from '../support/deadline.ts';

let folder: string;
let path: string;
let server: Server;
let link: QtestLink;
let qemu: Socket;
/** Lines that came, and what is answered to each. */
let asked: string[];
let answer: (line: string) => string | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
  path = join(folder, 'qtest');
  asked = [];
  answer = () => 'OK\n';
  server = createServer((socket) => {
    qemu = socket;
    socket.on('error', () => undefined);
    socket.setEncoding('latin1').on('data', (text) => {
      for (const line of String(text).split('\n').slice(0, -1)) {
        asked.push(line);
        const said = answer(line);
        if (said !== undefined) socket.write(said);
      }
    });
  });
  await new Promise<void>((resolve) => void server.listen(path, resolve));
  link = await QtestLink.connect(path, { answerMilliseconds: 300 });
  await until(2000, 'the connection', () => (qemu as Socket | undefined) !== undefined);
});

afterEach(() => {
  link.close();
  (qemu as Socket | undefined)?.destroy();
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('QtestLink', () => {
  it('spells requests as QEMU reads them', async () => {
    answer = (line) => (/^(in|read)/.test(line) ? 'OK 0x00000000000000a5\n' : 'OK\n');
    expect(await link.read(0x1_0000_0004, 4)).toBe(0xa5);
    expect(await link.in(0xcfd, 1)).toBe(0xa5);
    await link.write(0xe000_0002, 2, 0xbeef);
    await link.out(0xcf8, 4, 0x8000_2000);
    await link.out(0xcf8, 4, 0x8000_2000 | 0);
    expect(asked).toEqual(['readl 0x100000004', 'inb 0xcfd', 'writew 0xe0000002 0xbeef', 'outl 0xcf8 0x80002000', 'outl 0xcf8 0x80002000']);
  });

  it('has many requests under way, and takes the answers in order, in pieces', async () => {
    answer = () => undefined;
    const values = Promise.all([link.read(0, 4), link.read(4, 4), link.read(8, 4)]);
    await until(1000, 'the requests', () => asked.length === 3);
    for (const piece of ['OK 0x', '1\r\nOK 0x2\nO', 'K 0x3\n']) {
      qemu.write(piece);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(await values).toEqual([1, 2, 3]);
  });

  it('hears of lines between answers', async () => {
    const heard: string[] = [];
    answer = (line) => (line.startsWith('read') ? 'IRQ raise 20\nOK 0x7\nIRQ lower 20\n' : 'OK\n');
    const end = await link.watchLines((line, raised) => heard.push(`${line} ${raised}`));
    const second = await link.watchLines(() => undefined);
    expect(asked).toEqual(['irq_intercept_in ioapic']);
    expect(await link.read(0, 4)).toBe(7);
    await until(1000, 'both', () => heard.length === 2);
    expect(heard).toEqual(['20 true', '20 false']);
    end();
    second();
    await link.read(0, 4);
    expect(heard).toHaveLength(2);
  });

  it('reports what QEMU refuses, and goes on', async () => {
    answer = (line) => (line.startsWith('inl') ? "FAIL Unknown command 'inl'\n" : 'OK 0x1\n');
    await expect(link.in(0, 4)).rejects.toThrow(/QEMU refuses 'inl 0x0': FAIL Unknown command/);
    expect(await link.read(0, 4)).toBe(1);
  });

  it.each([
    ['garbage', 'HTTP/1.1 400 Bad Request\n', 'EPROTO', /a line that is none of its protocol: "HTTP/],
    ['no number', 'OK maybe\n', 'EPROTO', /expected a number in answer to 'readl 0x0', found "maybe"/],
    ['an answer too many', 'OK 0x1\nOK 0x2\n', 'EPROTO', /an answer that nothing asked for: "OK 0x2"/],
    ['a line without an end', 'x'.repeat(5000), 'EPROTO', /a line without an end/],
  ])('%s: ends the link with a named error, for good', async (_, text, code, message) => {
    answer = () => text;
    const reasons: string[] = [];
    link.onGone((reason) => reasons.push(reason));
    const first = link.read(0, 4).catch((error: unknown) => error);
    await until(1000, 'the end', () => reasons.length === 1);
    expect(reasons[0]).toMatch(message);
    await first;
    await expect(link.read(0, 4)).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string });
    link.onGone((reason) => reasons.push(reason));
    await until(1000, 'the late listener', () => reasons.length === 2);
  });

  it('does not wait for ever', async () => {
    answer = () => undefined;
    await expect(link.read(0, 4)).rejects.toMatchObject({
      code: 'ETIMEDOUT',
      message: expect.stringMatching(/within 0.3 s; is QEMU stopped/) as string,
    });
  });

  it.each([
    ['between two lines', undefined, /QEMU has ended$/],
    ['in the middle of one', 'OK 0x', /QEMU has ended in the middle of a line, after "OK 0x"/],
  ])('QEMU ends %s: everything that waits fails', async (_, text, message) => {
    answer = () => undefined;
    const waiting = [link.read(0, 4), link.write(0, 4, 0)];
    await until(1000, 'the requests', () => asked.length === 2);
    qemu.end(text ?? '');
    for (const request of waiting)
      await expect(request).rejects.toMatchObject({ code: 'ENODEV', message: expect.stringMatching(message) as string });
  });

  it('tells nobody when it is closed from here', async () => {
    const reasons: string[] = [];
    link.onGone((reason) => reasons.push(reason));
    link.close();
    await expect(link.read(0, 4)).rejects.toMatchObject({ code: 'EBADF' });
    expect(reasons).toEqual([]);
  });

  it('names the socket that is not there', async () => {
    await expect(QtestLink.connect(`${path}.missing`)).rejects.toMatchObject({
      code: 'ENOENT',
      message: expect.stringMatching(/qtest=.*: No such file or directory; .*-qtest unix:/) as string,
    });
  });
});
