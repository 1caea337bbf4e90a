import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { Arena, viewsOfShare, type ArenaOptions } from '../../src/memory/arena.ts';
import { hugePagePools } from '../../src/system/hugepages.ts';
import { addressOf } from '../../src/system/memory-map.ts';

const MIB = 1024 * 1024;
const SMALL: ArenaOptions = { bytes: MIB, ownBytes: MIB, peerBytes: 16 * MIB, pageSize: 4096, filePrefix: 'test' };
const HUGE = 2 * MIB;
const freeHuge = (): number => hugePagePools().find(({ pageSize }) => pageSize === HUGE)?.free ?? 0;
const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-arena-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** Protection of the mapping that holds an address. */
function mappingOf(address: number): { readonly protection: string; readonly path: string } | undefined {
  for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    const [, start = '', end = '', protection = '', path = ''] = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+\s*(.*)$/.exec(line) ?? [];
    if (address >= Number.parseInt(start, 16) && address < Number.parseInt(end, 16)) return { protection, path };
  }
  return undefined;
}

describe('an arena', () => {
  it('has its parts in order, none at offset 0, each on its own file or on none', () => {
    using arena = new Arena(SMALL);
    const { own, published, window } = arena;
    expect([own.start >= 65_536, own.end <= published.start, published.end <= window.start]).toEqual([true, true, true]);
    expect(window.end - window.start).toBeGreaterThanOrEqual(16 * MIB - HUGE);
    expect(mappingOf(arena.base + own.start)).toEqual({ protection: 'rw-s', path: '/memfd:test-dpdk-ts-own (deleted)' });
    expect(mappingOf(arena.base + published.start)).toEqual({ protection: 'rw-s', path: '/memfd:test-dpdk-ts (deleted)' });
    expect(mappingOf(arena.base + window.start)?.protection).toBe('---p');
    expect(arena.base).toBe(addressOf(arena.views.u8.subarray(0, 1)));
    const { guestAddress, bytes, userAddress } = arena.publishedRegion;
    expect([guestAddress, bytes, userAddress]).toEqual([published.start, published.end - published.start, arena.base + published.start]);
  });

  it('cannot be cut or grown by whoever gets its file', () => {
    using arena = new Arena(SMALL);
    const cut = spawnSync('truncate', ['-s', '0', '/proc/self/fd/3'], { stdio: ['ignore', 'ignore', 'pipe', arena.publishedFile] });
    const grow = spawnSync('truncate', ['-s', '1G', '/proc/self/fd/3'], { stdio: ['ignore', 'ignore', 'pipe', arena.publishedFile] });
    expect([cut.stderr.toString(), grow.stderr.toString()]).toEqual([
      expect.stringMatching(/Operation not permitted|not permitted/),
      expect.stringMatching(/Operation not permitted|not permitted/),
    ]);
  });

  describe('in a file of somebody else', () => {
    const sized = (name: string, bytes: number): string => {
      const path = join(directory, name);
      writeFileSync(path, '');
      truncateSync(path, bytes);
      return path;
    };

    it('has every byte at its own offset in that file, and nothing below it', () => {
      const path = sized('guest', 32 * MIB);
      using arena = new Arena({ ...SMALL, publishedPath: path });
      const { published, publishedRegion } = arena;
      expect(publishedRegion.fileOffset).toBe(published.start);
      expect(published.start).toBeGreaterThanOrEqual(MIB);
      arena.views.u8.set(Buffer.from('first'), published.start);
      arena.views.u8.set(Buffer.from('last'), published.end - 4);
      const file = readFileSync(path);
      expect(file.subarray(published.start, published.start + 5).toString()).toBe('first');
      expect(file.subarray(published.end - 4, published.end).toString()).toBe('last');
      expect(file.subarray(0, published.start).every((byte) => byte === 0)).toBe(true);
      expect([arena.isPublishedIn(path), arena.isPublishedIn(directory), arena.isPublishedIn(`${path}.missing`)]).toEqual([
        true,
        false,
        false,
      ]);
    });

    it('is alone there, until it is closed', () => {
      const path = sized('shared', 32 * MIB);
      const first = new Arena({ ...SMALL, publishedPath: path });
      expect(() => new Arena({ ...SMALL, publishedPath: path })).toThrow(/another process has its packets in .*shared/);
      first.close();
      using second = new Arena({ ...SMALL, publishedPath: path });
      expect(second.isPublishedIn(path)).toBe(true);
    });

    it.each([
      ['a file that is too small', () => sized('small', 2 * MIB), /small has 2 MiB, and rings and packets need it to have \d+/],
      ['a file that is not there', () => join(directory, 'missing'), /missing: No such file or directory/],
      ['a directory', () => directory, /Is a directory/],
      ['a device', () => '/dev/null', /\/dev\/null is no file/],
    ])('refuses %s', (_, path, message) => {
      expect(() => new Arena({ ...SMALL, publishedPath: path() })).toThrow(message);
    });
  });

  it('hands out zeroes, also where something else was before', () => {
    using arena = new Arena(SMALL);
    for (const [zone, allocate] of [
      [arena.own, arena.allocateOwn.bind(arena)],
      [arena.published, arena.allocatePublished.bind(arena)],
    ] as const) {
      const first = allocate(1000, 'a test');
      arena.views.u8.fill(0xff, first, first + 1000);
      zone.release(first);
      const second = allocate(1000, 'a test');
      expect(second).toBe(first);
      expect(arena.views.u8.subarray(second, second + 1000).every((byte) => byte === 0)).toBe(true);
    }
  });

  it('is the same memory on another thread', async () => {
    using arena = new Arena(SMALL);
    const offset = arena.allocatePublished(64, 'a test');
    const code =
      "const { workerData, parentPort } = require('node:worker_threads'); new Uint32Array(workerData.share.memory.buffer)[workerData.at] = 0xcafe; parentPort.postMessage('done');";
    const worker = new Worker(code, { eval: true, workerData: { share: arena.share(), at: offset >>> 2 } });
    await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    await worker.terminate();
    expect(arena.views.u32[offset >>> 2]).toBe(0xcafe);
    expect(viewsOfShare(arena.share()).u32[offset >>> 2]).toBe(0xcafe);
  });

  it('rounds up to whole pages', () => {
    using arena = new Arena({ ...SMALL, bytes: 100_001 });
    expect(arena.publishedRegion.bytes).toBe(131_072);
  });

  it('refuses a page size that no machine has', () => {
    expect(() => new Arena({ ...SMALL, pageSize: 8192 })).toThrow(/pageSize 8192: use 4096, 2097152, 1073741824 or 'auto'/);
  });

  it('refuses more than 4 GiB and says with which options to ask for less', () => {
    expect(() => new Arena({ ...SMALL, bytes: 5000 * MIB })).toThrow(
      /5000 MiB of packet memory do not fit into an arena of 4 GiB; ask for less with -m or --total-num-mbufs/,
    );
  });

  it('shrinks the window to what is left of 4 GiB', () => {
    using arena = new Arena({ ...SMALL, bytes: 512 * MIB, peerBytes: 8192 * MIB });
    expect(arena.window.end - arena.window.start).toBeGreaterThan(3400 * MIB);
    expect(arena.window.end).toBeLessThan(4096 * MIB);
  });

  it('warns once and takes 4 KiB pages when huge pages do not suffice', () => {
    const warnings: string[] = [];
    using arena = new Arena({ bytes: 3000 * MIB, ownBytes: MIB, peerBytes: 0, filePrefix: 'test', warn: (text) => warnings.push(text) });
    expect(arena.pageSize).toBe(4096);
    expect(warnings).toEqual([
      expect.stringMatching(
        /^not enough huge pages for \d+ MiB \(.*\): using 4 KiB pages, which are slower\. As root: echo \d+ > \/proc\/sys\/vm\/nr_hugepages, or .*--no-huge/,
      ),
    ]);
  });

  it.skipIf(freeHuge() < 12)('takes huge pages at once where they suffice, and gives them back', () => {
    const before = freeHuge();
    const arena = new Arena({ bytes: 4 * MIB, ownBytes: MIB, peerBytes: 0, filePrefix: 'test' });
    expect(arena.pageSize).toBe(HUGE);
    expect((arena.base + arena.published.start) % HUGE).toBe(0);
    // others may take or give pages back at the same time
    expect(before - freeHuge()).toBeGreaterThanOrEqual(0);
    arena.close();
  });

  it('says what to do when huge pages are asked for and missing', () => {
    const pages = hugePagePools().find(({ pageSize }) => pageSize === HUGE);
    const bytes = Math.max(64, ((pages?.free ?? 0) + 200) * 2) * MIB;
    if (bytes > 3500 * MIB) return;
    expect(() => new Arena({ ...SMALL, bytes, pageSize: HUGE })).toThrow(
      /too few free huge pages; free some, raise \/proc\/sys\/vm\/nr_hugepages, ask for less with -m, or give --no-huge|Cannot allocate memory/,
    );
  });

  it.each([
    [join(directory, 'missing'), /--huge-dir .*missing: not a readable directory; mount hugetlbfs there or leave the option out/],
    [directory, /--huge-dir .*: no hugetlbfs is mounted there; run 'mount -t hugetlbfs none .*' or leave the option out/],
  ])('refuses %s as a directory of huge pages', (path, text) => {
    expect(() => new Arena({ ...SMALL, hugeDirectory: path })).toThrow(text);
  });

  it('leaves no descriptor behind, whether it was made or not', () => {
    const before = readdirSync('/proc/self/fd').length;
    for (let time = 0; time < 5; time++) {
      new Arena(SMALL).close();
      expect(() => new Arena({ ...SMALL, pageSize: 2 ** 30, bytes: 2048 * MIB })).toThrow();
    }
    const arena = new Arena(SMALL);
    arena.close();
    arena.close();
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });

  const program = `
    import { Arena } from '${new URL('../../dist/memory/arena.js', import.meta.url).href}';
    try {
      const arena = new Arena({ bytes: 4194304, ownBytes: 2097152, peerBytes: 2147483648, pageSize: 4096, warn: (text) => console.log('warning: ' + text) });
      console.log('made, window of ' + Math.floor((arena.window.end - arena.window.start) / 1048576));
    } catch (error) {
      console.log(error.code + ': ' + error.message);
    }`;
  it('says what to raise when the system refuses its address space (ulimit -v)', () => {
    // enough for Node itself, not for the 10 GiB that a shared memory reserves
    const output = execFileSync('bash', ['-c', `ulimit -v 9000000; exec '${process.execPath}' --input-type=module -e "$0"`, program], {
      encoding: 'utf8',
      timeout: 15_000,
    });
    expect(output).toMatch(
      /^ENOMEM: the system refused \d+ MiB of shared memory\. .*raise 'ulimit -v' \(unlimited, or at least 12000000\)/,
    );
  });
});
