import { closeSync, readSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { VirtioError } from '../../src/system/error.ts';
import { closeFd, createEventFd, signalEventFd } from '../../src/system/event-fd.ts';
import { errnoName, errnoText, systemError } from '../../src/system/ffi.ts';
import { hugeMountAt, hugePagePools } from '../../src/system/hugepages.ts';
import {
  addressOf,
  createMemoryFile,
  fileSeals,
  mapMemory,
  MAP_SHARED,
  pageSize,
  PROT_READ_WRITE,
  resizeFile,
} from '../../src/system/memory-map.ts';

describe('errors of the system', () => {
  it('name what failed, the reason, the call, its number', () => {
    const error = systemError('socket /tmp/x', 'bind', 13);
    expect(error).toBeInstanceOf(VirtioError);
    expect([error.message, error.code, error.syscall, error.errno]).toEqual([
      'socket /tmp/x: Permission denied (bind)',
      'EACCES',
      'bind',
      13,
    ]);
  });

  it.each([
    [2, 'ENOENT', 'No such file or directory'],
    [11, 'EAGAIN', 'Resource temporarily unavailable'],
    [95, 'EOPNOTSUPP', 'Operation not supported'],
    [12_345, 'E12345', 'E12345'],
  ])('know %i', (errno, name, text) => {
    expect([errnoName(errno), errnoText(name)]).toEqual([name, text]);
  });

  it('keep their cause', () => {
    const cause = new Error('deep');
    const error = new VirtioError('shallow', { code: 'EIO', cause });
    expect([error.cause, error.name, 'cause' in new VirtioError('x', { code: 'EIO' })]).toEqual([cause, 'VirtioError', false]);
  });
});

describe('event descriptors', () => {
  it('count signals, and take one at their limit or after their end without an error', () => {
    const fd = createEventFd();
    for (let time = 0; time < 3; time++) signalEventFd(fd);
    const bytes = Buffer.alloc(8);
    readSync(fd, bytes);
    expect(bytes.readBigUInt64LE()).toBe(3n);
    expect(() => readSync(fd, bytes)).toThrow(/EAGAIN/);
    closeSync(fd);
    expect(() => signalEventFd(9999)).not.toThrow();
    expect(() => closeFd(9999)).not.toThrow();
  });
});

describe('memory files and mappings', () => {
  it('say what could not be had', () => {
    expect(() => mapMemory('a file', 0, 4096, PROT_READ_WRITE, MAP_SHARED, 9999, 0)).toThrow('a file: Bad file descriptor (mmap)');
    expect(() => resizeFile(9999, 1, 'a file')).toThrow('a file: Bad file descriptor (ftruncate)');
    expect(() => createMemoryFile('x'.repeat(300), 4096)).toThrow(/memory file 'x+' with pages of 4 KiB: Invalid argument/);
    expect(fileSeals(9999)).toBe(-1);
    expect(pageSize()).toBe(4096);
  });

  it('have an address that is the same for every view, plus its offset', () => {
    const bytes = new Uint8Array(new SharedArrayBuffer(100));
    expect(addressOf(bytes.subarray(10))).toBe(addressOf(bytes) + 10);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
  });
});

describe('huge pages', () => {
  it('come in pools from small to large, none with more free pages than it has', () => {
    const pools = hugePagePools();
    expect(pools.map((pool) => pool.pageSize)).toEqual(pools.map((pool) => pool.pageSize).sort((a, b) => a - b));
    for (const pool of pools) expect(pool.free).toBeLessThanOrEqual(pool.total);
  });

  it('are not where no hugetlbfs is mounted', () => {
    expect(() => hugeMountAt('/proc')).toThrow(/--huge-dir \/proc: no hugetlbfs is mounted there/);
    expect(() => hugeMountAt('/nonexistent')).toThrow(/not a readable directory/);
  });
});
