import { closeSync, mkdtempSync, openSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PEER_REGION_LIMIT, PeerMemory } from '../../src/backend/peer-memory.ts';
import type { MemoryRegion } from '../../src/backend/vhost-user/messages.ts';
import { bindAccess } from '../../src/memory/access.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { translate } from '../../src/ring/peer-memory.kernel.ts';
import { createEventFd } from '../../src/system/event-fd.ts';
import { hugePagePools } from '../../src/system/hugepages.ts';
import { createMemoryFile, resizeFile } from '../../src/system/memory-map.ts';
import { testArena } from '../support/ring-pair.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-peer-memory-'));

/** Descriptors of this process that are memory files. */
const memoryFiles = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('/memfd:guest');
    } catch {
      return false;
    }
  }).length;

function guestFile(bytes: number, pageSize = 4096): number {
  const fd = createMemoryFile('guest', pageSize);
  resizeFile(fd, bytes, 'a guest');
  return fd;
}

function region(guest: bigint, size: number, given: Partial<MemoryRegion> = {}): MemoryRegion {
  return { guestAddress: guest, size: BigInt(size), userAddress: guest + 0x7f00_0000_0000n, fileOffset: 0n, ...given };
}

describe('the memory of a peer', () => {
  let arena: Arena;
  let memory: PeerMemory;
  let free: number;
  beforeAll(() => {
    arena = testArena();
    bindAccess(arena.views);
  });
  afterAll(() => {
    arena.close();
    rmSync(directory, { recursive: true });
  });
  beforeEach(() => {
    free = arena.window.freeBytes;
    memory = new PeerMemory(arena, '(peer)');
  });
  afterEach(() => {
    memory.close();
    memory.close();
    expect(arena.window.freeBytes).toBe(free);
    expect(memoryFiles()).toBe(0);
  });
  const at = (address: bigint, length = 1): number =>
    translate(memory.table, Number(address & 0xffff_ffffn), Number(address >> 32n), length);
  /** Bytes in the file, seen through another mapping of it. */
  const poke = (offset: number, value: number): void => {
    arena.views.u8[offset] = value;
  };
  const peek = (offset: number): number | undefined => arena.views.u8[offset];

  it('is mapped where kernels and ring addresses find it', () => {
    memory.replace([region(0x1_0000_0000n, MIB)], [guestFile(MIB)]);
    const first = at(0x1_0000_0000n, MIB);
    expect(first).toBeGreaterThanOrEqual(arena.window.start);
    expect(at(0x1_000f_ffffn)).toBe(first + MIB - 1);
    expect(at(0x1_0010_0000n)).toBe(0);
    expect(memory.translateUser(0x7f01_0000_0000n, MIB)).toBe(first);
    expect([memory.translateUser(0x7f01_0000_0000n, MIB + 1), memory.translateUser(0x7f00_ffff_ffffn, 1)]).toEqual([undefined, undefined]);
    poke(first + MIB - 1, 9);
    expect(peek(first + MIB - 1)).toBe(9);
  });

  it.each([4096, 12_288, 100, 4097])('begins in its file where it says: at %i', (fileOffset) => {
    const fd = guestFile(MIB);
    const size = 64 * KIB;
    memory.replace([region(0x10_0000n, MIB, { userAddress: 1n << 40n })], [openSync(`/proc/self/fd/${fd}`, 'r+')]);
    const whole = at(0x10_0000n);
    for (let index = 0; index < MIB; index += 1) poke(whole + index, (index * 7) & 0xff);
    memory.replace([region(0x20_0000n, size, { fileOffset: BigInt(fileOffset) })], [fd]);
    const first = at(0x20_0000n, size);
    expect([peek(first), peek(first + size - 1)]).toEqual([(fileOffset * 7) & 0xff, ((fileOffset + size - 1) * 7) & 0xff]);
    expect(at(0x1f_ffffn)).toBe(0);
    expect(memory.translateUser(0x7f00_0020_0000n, size)).toBe(first);
  });

  it('lets a buffer lie in two regions that touch', () => {
    const files = [guestFile(64 * KIB), guestFile(64 * KIB), guestFile(64 * KIB)];
    // given out of order; the third does not touch
    memory.replace([region(0x11_0000n, 64 * KIB), region(0x10_0000n, 64 * KIB), region(0x13_0000n, 64 * KIB)], files);
    const first = at(0x10_0000n, 128 * KIB);
    expect(first).not.toBe(0);
    expect(at(0x11_0000n)).toBe(first + 64 * KIB);
    expect([at(0x11_ffffn, 2), at(0x12_0000n), at(0x12_ffffn)]).toEqual([0, 0, 0]);
    expect(at(0x13_0000n, 64 * KIB)).not.toBe(0);
    expect(memory.translateUser(0x7f00_0011_0000n, 64 * KIB)).toBe(first + 64 * KIB);
  });

  it('does not join regions that touch where their files do not fit together', () => {
    memory.replace([region(0x10_0000n, 10_000), region(0x10_0000n + 10_000n, 10_000)], [guestFile(12_288), guestFile(12_288)]);
    expect([at(0x10_0000n, 10_000), at(0x10_0000n + 10_000n, 10_000)]).not.toContain(0);
    expect(at(0x10_0000n + 9999n, 2)).toBe(0);
  });

  it.each([
    ['an empty region', [region(0x10_0000n, 0)], /is empty/],
    ['a region beyond 2^64', [region(0xffff_ffff_ffff_f000n, 0x2000, { userAddress: 0n })], /ends beyond 2\^64/],
    ['a user address beyond 2^64', [region(0n, 0x2000, { userAddress: 0xffff_ffff_ffff_f000n })], /ends beyond 2\^64/],
    ['a region larger than its file', [region(0x10_0000n, MIB + 1)], /is larger than its file.*would kill the process/],
    ['a file offset that leaves the file', [region(0x10_0000n, MIB, { fileOffset: 1n })], /is larger than its file/],
    ['a file offset that wraps', [region(0x10_0000n, MIB, { fileOffset: 0xffff_ffff_fff0_0000n })], /impossible file offset/],
    ['a region of 2^63 bytes', [region(0n, 0, { size: 1n << 63n, userAddress: 0n })], /impossible file offset/],
    ['regions that overlap', [region(0x10_0000n, MIB), region(0x1f_ffffn, MIB)], /overlaps another one/],
    ['a region twice', [region(0x10_0000n, MIB), region(0x10_0000n, MIB)], /overlaps another one/],
  ])('refuses %s, and keeps no descriptor', (_, regions, text) => {
    expect(() =>
      memory.replace(
        regions,
        regions.map(() => guestFile(MIB)),
      ),
    ).toThrow(text);
    memory.clear();
    expect([memoryFiles(), memory.regions]).toEqual([0, []]);
  });

  it.each([
    [2, 1],
    [1, 2],
    [1, 8],
  ])('refuses %i regions with %i descriptors, and closes them', (regions, files) => {
    const table = Array.from({ length: regions }, (_, index) => region(BigInt(index + 1) << 24n, MIB));
    expect(() =>
      memory.replace(
        table,
        Array.from({ length: files }, () => guestFile(MIB)),
      ),
    ).toThrow(`${regions} memory regions came with ${files} file descriptors`);
  });

  it('refuses descriptors that are no files', () => {
    expect(() => memory.replace([region(0n, MIB)], [createEventFd()])).toThrow(
      /a descriptor that is no file; does the peer share its memory/,
    );
    expect(() => memory.replace([region(0n, MIB)], [openSync(directory, 'r')])).toThrow(/a descriptor that is no file/);
    expect(() => memory.replace([region(0n, MIB)], [openSync('/dev/zero', 'r')])).toThrow(/a descriptor that is no file/);
    const closed = createEventFd();
    closeSync(closed);
    expect(() => memory.replace([region(0n, MIB)], [closed])).toThrow(/without a usable file descriptor/);
  });

  it('refuses a file that may only be read, and leaves the window as it was', () => {
    const path = join(directory, 'read-only');
    writeFileSync(path, Buffer.alloc(8192));
    expect(() => memory.replace([region(0x10_0000n, 8192)], [openSync(path, 'r')])).toThrow(/Permission denied/);
    memory.clear();
    expect(arena.window.freeBytes).toBe(free);
  });

  it('names the option when the window is too small, and takes less afterwards', () => {
    expect(() => memory.replace([region(0n, 80 * MIB)], [guestFile(80 * MIB)])).toThrow(
      /\(peer\): shares 80 MiB, and the address window for peers has \d+ MiB left; raise --peer-mem/,
    );
    memory.replace([region(0n, MIB)], [guestFile(MIB)]);
    expect(at(0n, MIB)).not.toBe(0);
  });

  it('adds and removes regions one by one, and joins and parts them', () => {
    const [a, b, c] = [region(0x10_0000n, 64 * KIB), region(0x11_0000n, 64 * KIB), region(0x12_0000n, 64 * KIB)];
    memory.add(a, guestFile(64 * KIB));
    memory.add(c, guestFile(64 * KIB));
    poke(at(0x12_0000n), 77);
    expect(at(0x10_fff0n, 32)).toBe(0);
    memory.add(b, guestFile(64 * KIB));
    expect(at(0x10_0000n, 192 * KIB)).not.toBe(0);
    expect(peek(at(0x12_0000n))).toBe(77);
    memory.remove(b);
    expect([at(0x11_0000n), at(0x10_0000n, 64 * KIB) === 0, peek(at(0x12_0000n)), memoryFiles()]).toEqual([0, false, 77, 2]);
    expect(() => memory.remove(b)).toThrow(/is to be removed and is not there/);
    expect(() => memory.remove({ ...a, size: 1n })).toThrow(/is not there/);
    expect(() => memory.add(region(0x10_8000n, 64 * KIB), guestFile(64 * KIB))).toThrow(/overlaps another one/);
  });

  it('holds a region that is added several times until it was removed as often', () => {
    const a = region(0x10_0000n, 64 * KIB);
    const file = guestFile(64 * KIB);
    memory.add(a, openSync(`/proc/self/fd/${file}`, 'r+'));
    poke(at(0x10_0000n), 77);
    memory.add(a, openSync(`/proc/self/fd/${file}`, 'r+'));
    expect([peek(at(0x10_0000n)), memory.regions.length]).toEqual([77, 1]);
    expect(() => memory.add(a, guestFile(64 * KIB)), 'another file').toThrow(/overlaps another one/);
    memory.remove(a);
    expect(at(0x10_0000n)).not.toBe(0);
    memory.remove(a);
    expect(at(0x10_0000n)).toBe(0);
    expect(() => memory.remove(a)).toThrow(/is not there/);
    closeSync(file);
  });

  it(`takes ${PEER_REGION_LIMIT} regions and not one more`, () => {
    for (let index = 0; index < PEER_REGION_LIMIT; index++) memory.add(region(BigInt(index) << 24n, 4096), guestFile(4096));
    for (let index = 0; index < PEER_REGION_LIMIT; index++) expect(at(BigInt(index) << 24n, 4096)).not.toBe(0);
    expect(() => memory.add(region(1n << 40n, 4096), guestFile(4096))).toThrow(`more than ${PEER_REGION_LIMIT} memory regions`);
  });

  const huge = hugePagePools().some(({ pageSize, free: pages }) => pageSize === 2 * MIB && pages >= 4);
  it.skipIf(!huge)('maps huge pages beside small ones within the room that it took', () => {
    const neighbour = new PeerMemory(arena, '(neighbour)');
    // the second region ends inside its huge page
    memory.replace([region(0x20_0000n, 2 * MIB), region(0x40_0000n, MIB)], [guestFile(2 * MIB), guestFile(2 * MIB, 2 * MIB)]);
    neighbour.replace([region(0x20_0000n, 2 * MIB)], [guestFile(2 * MIB)]);
    const first = at(0x20_0000n, 3 * MIB);
    expect(first).not.toBe(0);
    poke(first + 3 * MIB - 1, 5);
    const other = neighbour.translateUser(0x7f00_0020_0000n, 2 * MIB) ?? 0;
    expect(other).toBeGreaterThanOrEqual(first + 4 * MIB);
    memory.replace([region(0x20_0000n, 2 * MIB, { fileOffset: 0n })], [guestFile(2 * MIB, 2 * MIB)]);
    memory.clear();
    poke(other, 1);
    expect(peek(other)).toBe(1);
    neighbour.close();
  });
});
