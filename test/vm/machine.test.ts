/**
 * The launcher itself: what goes in, what comes out, and that nothing of the machine outlives its time or its parent.
 * @module
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { until, within } from '../support/deadline.ts';
import { isAlive } from '../support/processes.ts';
import { WHY_NO_MACHINE } from './available.ts';
import { MachineError, runInMachine } from './machine.ts';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));

describe.skipIf(WHY_NO_MACHINE !== undefined)('the test machine', () => {
  test('runs a Debian kernel with 4 CPUs, 4 GiB, huge pages, the host’s programs and the devices of the exception path', async () => {
    const command = `uname -v; nproc; grep -E '^(MemTotal|HugePages_Free):' /proc/meminfo; ls /dev/vhost-net /dev/net/tun
      node --version; type dpdk-testpmd; test -w ${MAIN} && echo writable; findmnt -no FSTYPE /dev/hugepages; echo nonsense >&2; exit 7`;
    const { status, stdout, stderr } = await runInMachine({ command });
    expect(stderr).toMatch(/nonsense/);
    expect(status).toBe(7);
    const lines = stdout.trim().split('\n');
    expect(lines[0]).toMatch(/Debian/);
    expect(lines[1]).toBe('4');
    expect(Number(/MemTotal: +(\d+)/.exec(stdout)?.[1])).toBeGreaterThan(3_800_000);
    expect(stdout).toMatch(/HugePages_Free: +768\n/);
    expect(stdout).toMatch(/^\/dev\/net\/tun\n\/dev\/vhost-net$/m);
    expect(stdout).toMatch(new RegExp(`^${process.version}$`, 'm'));
    expect(stdout).toMatch(/^dpdk-testpmd is \/usr/m);
    expect(stdout).not.toMatch(/^writable$/m);
    expect(lines.at(-1)).toBe('hugetlbfs');
  });

  test('takes input and words as they are, passes every byte of the output on, and writes to the folder that it was given', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'dpdk-ts-vm-test-'));
    try {
      const line = 'tee "$1/copy" | sha256sum >&2; printf "%s\\n" "$2"; head -c 3000000 /dev/zero; sleep 1000 &';
      const words = ['sh', '-c', line, 'sh', folder, `it's "$HOME"`];
      const input = 'line\n'.repeat(50_000);
      const { status, stdout, stderr } = await runInMachine({ command: words, input, writable: folder, hugePages: 0 });
      expect(stderr.trim()).toBe(`${createHash('sha256').update(input).digest('hex')}  -`);
      expect(status).toBe(0);
      expect(stdout.length).toBe(`it's "$HOME"\n`.length + 3_000_000);
      expect(stdout.startsWith(`it's "$HOME"\n\0`)).toBe(true);
      expect(await readFile(join(folder, 'copy'), 'utf8')).toBe(input);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('is booted again when QEMU crashes', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'dpdk-ts-vm-test-'));
    try {
      const begun = async (): Promise<string> => readFile(join(folder, 'begun'), 'utf8').catch(() => '');
      const command = `echo once >> ${folder}/begun; sync; [ "$(wc -l < ${folder}/begun)" = 2 ] || sleep 1000`;
      const machine = runInMachine({ command, writable: folder, hugePages: 0 });
      await until(60_000, 'the command', async () => (await begun()) === 'once\n');
      const qemu = await qemuOf(process.pid);
      // 0 would be this process and all of its group
      if (qemu === undefined) throw new Error('no QEMU among the children');
      process.kill(qemu, 'SIGSEGV');
      expect((await machine).status).toBe(0);
      expect(await begun()).toBe('once\nonce\n');
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('ends at its time limit, and says what was printed until then', async () => {
    // a busy host has been seen to take more than 20 s for starting it
    const late = await runInMachine({ command: 'echo so far; sleep 1000', limit: 40_000, hugePages: 0 }).catch((error: unknown) => error);
    expect(late).toBeInstanceOf(MachineError);
    expect((late as MachineError).late).toBe(true);
    expect((late as MachineError).message).toMatch(/not within 40 s: echo so far; sleep 1000[^]*--- stdout\nso far/);
  });

  test('says why when the kernel does not come up', async () => {
    const broken = runInMachine({ command: 'true', kernelArguments: 'rdinit=/nothing', hugePages: 0, limit: 30_000 });
    await expect(broken).rejects.toThrow(/before the command did: true[^]*--- console[^]*(rdinit|panic)/);
  });

  test('is ended with its parent', async () => {
    const child = spawn(process.execPath, ['--import', 'tsx', MAIN, 'echo $$; sleep 1000'], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    try {
      await until(60_000, 'the command to run', () => said.includes('\n'), 50);
      const qemu = await qemuOf(child.pid ?? 0);
      expect(qemu).toBeDefined();
      child.kill('SIGKILL');
      await until(5000, 'QEMU to end', () => !isAlive(qemu ?? 0));
    } finally {
      child.kill('SIGKILL');
      await within(
        5000,
        'the launcher to end',
        new Promise((resolve) => ((child.exitCode ?? child.signalCode) === null ? child.once('exit', resolve) : resolve(undefined))),
      );
    }
  });
});

/** The QEMU that a process has started. */
async function qemuOf(parent: number): Promise<number | undefined> {
  const children = (await readFile(`/proc/${parent}/task/${parent}/children`, 'utf8')).trim().split(' ');
  const names = await Promise.all(children.map((pid) => readFile(`/proc/${pid}/comm`, 'utf8')));
  const index = names.findIndex((name) => name.startsWith('qemu'));
  return index < 0 ? undefined : Number(children[index]);
}
