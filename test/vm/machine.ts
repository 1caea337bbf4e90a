/**
 * Boots the test machine, runs one command in it, and returns what the command said and its exit status.
 *
 *     const { status, stdout } = await runInMachine({ command: ['dpdk-testpmd', '--version'] });
 *
 * The command's input and output travel over ports of a virtio-serial device, each a socket pair with QEMU; the kernel's console goes to
 * a file that is shown when the machine ends without a status. QEMU ends with this process, however that ends.
 * @module
 */
import { spawn, spawnSync, type StdioOptions } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { accessSync, constants, fstatSync, readFileSync, readSync } from 'node:fs';
import { mkdir, mkdtemp, open, readFile, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Duplex, Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import project from '../../package.json' with { type: 'json' };
import { MachineError } from './error.ts';
import { initramfs, shareTag, type Share } from './initramfs.ts';
import { cacheFolder, prepareKernel, type Kernel } from './kernel.ts';

export { MachineError } from './error.ts';

export type Accelerator = 'kvm' | 'tcg';

export interface MachineOptions {
  /** Words, executed as they are, or a line (or several) of shell. */
  readonly command: readonly string[] | string;
  /** `capture`: returned. `inherit`: this process's own. `terminal`: the same, as a terminal. Default `capture`. */
  readonly stdio?: 'capture' | 'inherit' | 'terminal' | undefined;
  /** What the command reads, with `capture`; nothing when absent. */
  readonly input?: string | undefined;
  readonly cpus?: number | undefined;
  /** MiB. */
  readonly memory?: number | undefined;
  /** Of 2 MB, taken out of `memory` at boot. */
  readonly hugePages?: number | undefined;
  /** Milliseconds from the start of QEMU to its end; 0 for none. Default 120,000. */
  readonly limit?: number | undefined;
  /** A folder of the host to write to from inside. */
  readonly writable?: string | undefined;
  /** Modules to load besides tun, vhost_net and veth. */
  readonly modules?: readonly string[] | undefined;
  readonly environment?: Readonly<Record<string, string>> | undefined;
  readonly kernelArguments?: string | undefined;
  readonly qemuArguments?: readonly string[] | undefined;
  readonly accelerator?: Accelerator | undefined;
  /** Lines of shell that set up a network namespace in which QEMU then runs, for its taps; root only. Default: the host's namespace. */
  readonly network?: string | undefined;
  /** Gives the machine QEMU's monitor (QMP) as /dev/vport0p5: what is written there changes the machine from outside. */
  readonly monitor?: boolean | undefined;
}

export interface MachineResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly accelerator: Accelerator;
}

const PROJECT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
/** What Node loads first in an emulated machine. */
const WHOLE_KERNELS = join(PROJECT, 'test/vm/whole-kernels.mjs');
const DEFAULT_MODULES = ['tun', 'vhost_net', 'veth'];
const KERNEL_ARGUMENTS =
  // init_on_alloc would write to every huge page at boot. tsc=reliable: with the HPET as its clock an idle emulated machine now and then
  // slept for ever; the price is a rate that is told (emulatedCounter) or else measured once, while it boots. no_timer_check: on a busy
  // host the timer's trial interrupts come too late, and the kernel gives up
  'console=ttyS0 loglevel=4 panic=-1 mitigations=off tsc=reliable nokaslr random.trust_cpu=on init_on_alloc=0 no_timer_check';
const DEFAULT_LIMIT = 120_000;
const PROBE_LIMIT = 12_000;
/** An emulated machine on a busy host now and then stands still before its kernel has said a word; it boots in 5 s as a rule. */
const BOOT_LIMIT = 60_000;
const BOOTS = 3;
/** Signals that end a program for its own fault. */
const CRASHES = ['SIGSEGV', 'SIGABRT', 'SIGBUS'];
/** What init.sh writes to the port of the status before it runs the command. */
const BEGUN = 'begun\n';
const CONSOLE_TAIL = 4000;

/**
 * Runs a command in a machine of its own.
 * @throws MachineError when the machine does not boot (after three attempts), ends before the command does, or has not ended within the limit
 */
export async function runInMachine(options: MachineOptions): Promise<MachineResult> {
  const kernel = await prepareKernel();
  const accelerator = options.accelerator ?? (await chooseAccelerator());
  // what a terminal or a pipe has said to the first machine cannot be said again
  const boots = (options.stdio ?? 'capture') === 'capture' ? BOOTS : 1;
  for (let left = boots - 1; ; left--) {
    try {
      return await boot(kernel, options, accelerator);
    } catch (error) {
      if (left === 0 || !(error instanceof MachineError) || !(error.stillborn || error.crashed)) throw error;
    }
  }
}

/**
 * KVM where a machine really runs with it, which a device file does not promise; tried once between two boots of the host.
 * DPDK_TS_VM_ACCEL=kvm or tcg decides without a trial.
 */
export async function chooseAccelerator(): Promise<Accelerator> {
  const forced = process.env['DPDK_TS_VM_ACCEL'];
  if (forced === 'kvm' || forced === 'tcg') return forced;
  if (forced !== undefined) throw new MachineError(`DPDK_TS_VM_ACCEL=${forced}: kvm or tcg`);
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return 'tcg';
  }
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const memo = join(cacheFolder(), `accelerator-${bootId}`);
  const known = await readFile(memo, 'utf8').catch(() => '');
  if (known === 'kvm' || known === 'tcg') return known;
  const kernel = await prepareKernel();
  const works = await boot(kernel, { command: ['true'], limit: PROBE_LIMIT, hugePages: 0 }, 'kvm').then(
    ({ status }) => status === 0,
    (error: unknown) => {
      if (error instanceof MachineError) return false;
      throw error;
    },
  );
  const accelerator = works ? 'kvm' : 'tcg';
  await mkdir(cacheFolder(), { recursive: true });
  await writeFile(memo, accelerator);
  return accelerator;
}

async function boot(kernel: Kernel, options: MachineOptions, accelerator: Accelerator): Promise<MachineResult> {
  const stdio = options.stdio ?? 'capture';
  const shares = sharesFor(options);
  const archive = await initramfs({
    kernel,
    shares,
    modules: [...DEFAULT_MODULES, ...(options.modules ?? [])],
    command: options.command,
    workingFolder: isWithin(PROJECT, process.cwd()) ? process.cwd() : PROJECT,
    environment: { ...(accelerator === 'tcg' ? { NODE_OPTIONS: `--import=${WHOLE_KERNELS}` } : {}), ...options.environment },
    input: stdio === 'terminal' ? 'terminal' : stdio === 'inherit' || options.input !== undefined ? 'pipe' : 'none',
    node: process.execPath,
    programs: Object.fromEntries(Object.entries(project.bin).map(([name, path]) => [name, join(PROJECT, path)])),
  });
  await using files = await AnonymousFiles.create(['initramfs', 'console']);
  const [image, log] = files.handles as [FileHandle, FileHandle];
  await image.writeFile(archive);

  const args = qemuArguments(kernel, options, accelerator, shares);
  const run = new Run(args, [image.fd, log.fd], options, stdio);
  const end = await run.end;
  const statusText = end.status.slice(BEGUN.length).trim();
  const status = Number(statusText);
  if (statusText === '' || !Number.isInteger(status)) {
    const console = tail(log.fd);
    const why = end.stillborn
      ? `not booted within ${BOOT_LIMIT / 1000} s`
      : end.late
        ? `not within ${(options.limit ?? DEFAULT_LIMIT) / 1000} s`
        : `QEMU ended (${end.exit}) before the command did`;
    const said = `${end.error}${stdio === 'capture' ? `\n--- stdout\n${end.stdout}\n--- stderr\n${end.stderr}` : ''}`;
    throw new MachineError(`${why}: ${commandText(options.command)}\n${said}\n--- console\n${console}`, end);
  }
  return { status, stdout: end.stdout, stderr: end.stderr, accelerator };
}

interface End {
  /** BEGUN, and then the command's exit status, as far as the machine came. */
  readonly status: string;
  readonly stdout: string;
  readonly stderr: string;
  /** QEMU's own messages, and how it ended. */
  readonly error: string;
  readonly exit: string;
  /** Ended by the time limit, or by that of booting. */
  readonly late: boolean;
  readonly stillborn: boolean;
  /** QEMU ended by a fault of its own: 7.2 does now and then, emulating an IOMMU that remaps interrupts. */
  readonly crashed: boolean;
}

/** From descriptor 2 on. */
type Streams = [Readable, null, null, Readable, Duplex, Readable, Readable];

/** Descriptors in QEMU: 3 the initramfs, 4 the console's file, 5 the status, 6 to 8 the command's input, output and errors. */
class Run {
  readonly end: Promise<End>;

  constructor(
    args: readonly string[],
    files: readonly [number, number],
    options: MachineOptions,
    stdio: 'capture' | 'inherit' | 'terminal',
  ) {
    const terminal = stdio === 'terminal';
    const own = terminal ? 'inherit' : 'ignore';
    const streams: StdioOptions = [own, own, 'pipe', ...files, 'pipe', 'pipe', 'pipe', 'pipe'];
    // the wrapper becomes QEMU, which the kernel ends when this process is gone
    const namespace = options.network === undefined ? [] : ['unshare', '-n', 'sh', '-c', `set -e\n${options.network}\nexec "$@"`, 'sh'];
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...namespace, 'qemu-system-x86_64', ...args], { stdio: streams });
    const [messages, , , status, input, output, errors] = (child.stdio as readonly unknown[]).slice(2) as Streams;
    const error = collected(messages);
    const statusText = collected(status);
    const inherit = stdio === 'inherit';
    const stdout = inherit ? passedOn(output, process.stdout) : collected(output);
    const stderr = inherit ? passedOn(errors, process.stderr) : collected(errors);
    // the machine may be gone before it has read everything
    input.on('error', () => undefined);
    if (inherit) process.stdin.pipe(input);
    else input.end(options.input ?? '');
    input.resume();

    let late = false;
    let stillborn = false;
    const limit = options.limit ?? DEFAULT_LIMIT;
    const timer =
      limit === 0
        ? undefined
        : setTimeout(() => {
            late = true;
            child.kill('SIGKILL');
          }, limit);
    const bootTimer = setTimeout(() => {
      stillborn = true;
      child.kill('SIGKILL');
    }, BOOT_LIMIT);
    status.once('data', () => {
      clearTimeout(bootTimer);
    });
    const kill = (): void => void child.kill('SIGKILL');
    process.once('exit', kill);
    this.end = new Promise<string>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => resolve(signal ?? `exit status ${code ?? '?'}`));
    })
      .then(async (exit) => {
        const texts = await Promise.all([statusText, stdout, stderr, error]);
        return {
          status: texts[0],
          stdout: texts[1],
          stderr: texts[2],
          error: texts[3].trim(),
          exit,
          late: late || stillborn,
          stillborn,
          crashed: CRASHES.includes(exit),
        };
      })
      .finally(() => {
        clearTimeout(timer);
        clearTimeout(bootTimer);
        process.off('exit', kill);
        if (inherit) {
          process.stdin.unpipe(input);
          process.stdin.destroy();
        }
        input.destroy();
        // QEMU was killed and has left the terminal as it used it
        if (terminal && late) spawnSync('stty', ['sane'], { stdio: 'inherit' });
      });
  }
}

async function collected(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of stream) chunks.push(chunk as Buffer);
  } catch {
    // the other end was killed: what came until then counts
  }
  return Buffer.concat(chunks).toString();
}

async function passedOn(stream: Readable, to: NodeJS.WritableStream): Promise<string> {
  try {
    for await (const chunk of stream) to.write(chunk as Buffer);
  } catch {
    // as above
  }
  return '';
}

function qemuArguments(kernel: Kernel, options: MachineOptions, accelerator: Accelerator, shares: readonly Share[]): string[] {
  const hugePages = options.hugePages ?? 768;
  const port = (name: string, fd: number): string[] => [
    ...['-chardev', `socket,id=${name},fd=${fd}`],
    ...['-device', `virtserialport,bus=serial.0,nr=${fd - 4},chardev=${name},name=${name}`],
  ];
  const terminal =
    options.stdio === 'terminal'
      ? ['-chardev', 'stdio,id=terminal,mux=on,signal=off', '-device', 'virtconsole,bus=serial.0,nr=0,chardev=terminal']
      : [];
  return [
    ...['-M', 'q35', '-accel', accelerator === 'kvm' ? 'kvm' : 'tcg,thread=multi', '-cpu', 'max'],
    ...['-smp', String(options.cpus ?? 4), '-m', String(options.memory ?? 4096)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-kernel', kernel.image, '-initrd', '/proc/self/fd/3'],
    ...[
      '-append',
      `${KERNEL_ARGUMENTS}${accelerator === 'tcg' ? emulatedCounter() : ''} hugepagesz=2M hugepages=${hugePages} ${options.kernelArguments ?? ''}`.trim(),
    ],
    ...['-chardev', 'file,id=console,path=/proc/self/fd/4', '-serial', 'chardev:console'],
    ...['-device', 'virtio-serial-pci,id=serial,disable-legacy=on,max_ports=8'],
    ...terminal,
    ...['status', 'input', 'output', 'errors'].flatMap((name, index) => port(name, 5 + index)),
    ...(options.monitor === true ? monitorArguments() : []),
    ...shares.flatMap(({ path, writable }, index) => [
      ...[
        '-fsdev',
        `local,id=fs${index},path=${path.replaceAll(',', ',,')},security_model=none,multidevs=remap,readonly=${writable ? 'off' : 'on'}`,
      ],
      ...['-device', `virtio-9p-pci,fsdev=fs${index},mount_tag=${shareTag(index)},disable-legacy=on`],
    ]),
    ...(options.qemuArguments ?? []),
  ];
}

/**
 * Kernel argument with the rate of the time stamp counter, which QEMU passes on from the host's: then it need not be measured while the
 * machine boots, against timers that a busy host delays. (One machine told 3378 s after two minutes, and every time limit in it was over at
 * once; a wrong rate would explain it, but that machine's was not seen.) /proc/cpuinfo has the rate where the host is a virtual machine that
 * cannot read its own frequency; elsewhere it may show another, and nothing is said.
 */
function emulatedCounter(): string {
  const text = readFileSync('/proc/cpuinfo', 'utf8');
  const flags = new Set(/^flags\s*:(.*)$/m.exec(text)?.[1]?.split(' '));
  const megahertz = Number(/^cpu MHz\s*: *([\d.]+)$/m.exec(text)?.[1] ?? 0);
  const isTold = flags.has('hypervisor') && flags.has('constant_tsc') && !flags.has('aperfmperf') && megahertz > 0;
  return isTold ? ` tsc_early_khz=${String(Math.round(megahertz * 1000))}` : '';
}

/** QEMU speaks to itself, over a socket without a file. */
function monitorArguments(): string[] {
  const socket = `socket,abstract=on,path=dpdk-ts-vm-${randomUUID()}`;
  return [
    ...['-chardev', `${socket},id=monitor,server=on,wait=off`, '-mon', 'chardev=monitor,mode=control'],
    ...['-chardev', `${socket},id=inside`, '-device', 'virtserialport,bus=serial.0,nr=5,chardev=inside,name=monitor'],
  ];
}

/** /usr, this project, node's folder when it is in neither, and the folder to write to. */
function sharesFor({ writable }: MachineOptions): readonly Share[] {
  const shares: Share[] = [{ path: '/usr', writable: false }];
  const add = (path: string): void => {
    if (!shares.some((share) => isWithin(share.path, path))) shares.push({ path, writable: false });
  };
  add(PROJECT);
  add(dirname(dirname(process.execPath)));
  if (writable !== undefined) shares.push({ path: resolve(writable), writable: true });
  const unusable = shares.find(({ path }) => /\s/.test(path));
  if (unusable !== undefined) throw new MachineError(`${unusable.path}: a path with white space cannot be shared with the machine`);
  return shares;
}

function isWithin(folder: string, path: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

function commandText(command: readonly string[] | string): string {
  return typeof command === 'string' ? command : command.join(' ');
}

/** The last of a file. */
function tail(fd: number): string {
  const { size } = fstatSync(fd);
  const bytes = Buffer.alloc(Math.min(size, CONSOLE_TAIL));
  readSync(fd, bytes, 0, bytes.length, size - bytes.length);
  return bytes.toString();
}

/** Open files without a name: gone with the last process that has them open. */
class AnonymousFiles implements AsyncDisposable {
  readonly handles: readonly FileHandle[];

  private constructor(handles: readonly FileHandle[]) {
    this.handles = handles;
  }

  static async create(names: readonly string[]): Promise<AnonymousFiles> {
    const folder = await mkdtemp(join(tmpdir(), 'dpdk-ts-vm-'));
    try {
      return new AnonymousFiles(await Promise.all(names.map((name) => open(join(folder, name), 'wx+', 0o600))));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const handle of this.handles) await handle.close();
  }
}
