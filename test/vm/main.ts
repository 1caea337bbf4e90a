/**
 * Runs a command in the test machine: a small virtual machine with a stock Debian kernel, which has what the kernel of a container or of
 * a build server often lacks: /dev/vhost-net, /dev/net/tun, vfio, namespaces, huge pages.
 *
 *     npm run vm -- iperf3 --version           words: executed as they are
 *     npm run vm -- 'ls -l /dev/vhost-net; id'  a single argument: a line of shell
 *     npm run vm                                a shell (Ctrl-D ends it and the machine; Ctrl-A x pulls the plug)
 *
 * The exit status is the command's; 124 when the time limit ended it, 125 when the machine did not run. Inside: the host's /usr and this
 * project, read-only and at their own paths, node, `dpdk-ts-testpmd` (dist/ must be built), `modprobe`, and an empty /tmp. From another
 * program: runInMachine() of machine.ts.
 * @module
 */
import { parseArgs } from 'node:util';
import { prepareKernel } from './kernel.ts';
import { chooseAccelerator, MachineError, runInMachine } from './machine.ts';
import { whyNoPrograms } from './requirements.ts';

const HELP = `npm run vm -- [options] [--] [COMMAND [ARGUMENT...]]

  --cpus N         virtual CPUs (4)
  --memory MIB     memory (4096)
  --huge-pages N   huge pages of 2 MB, taken at boot (768)
  --limit SECONDS  ends the machine after that time (300; a shell without a command: none)
  --write DIR      shares this folder of the host, to be written to from inside, at its own path
  --module NAME    loads one more kernel module; may be repeated
  --append TEXT    kernel arguments
  --qemu TEXT      arguments for QEMU, separated by spaces; may be repeated
  --accel NAME     kvm or tcg (what works here; environment: DPDK_TS_VM_ACCEL)
  --prepare        only fetches and unpacks the kernel, and tries KVM; exit status 3 when that cannot be done here
  -h, --help       this text

A single COMMAND without arguments is a line of shell. Packages and caches: docs/testing.md`;

const UNAVAILABLE = 3;
const OPTIONS = {
  cpus: { type: 'string' },
  memory: { type: 'string' },
  'huge-pages': { type: 'string' },
  limit: { type: 'string' },
  write: { type: 'string' },
  module: { type: 'string', multiple: true },
  append: { type: 'string' },
  qemu: { type: 'string', multiple: true },
  accel: { type: 'string' },
  prepare: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** Where the command begins: at the first word that is neither an option nor an option's value. */
function commandIndex(words: readonly string[]): number {
  let index = 0;
  while (index < words.length) {
    const word = words[index] ?? '';
    if (word === '--' || !word.startsWith('-')) break;
    const option = Object.entries(OPTIONS).find(([name]) => word === `--${name}`);
    index += option?.[1].type === 'string' ? 2 : 1;
  }
  return index;
}

function count(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d+$/.test(text)) throw new RangeError(`--${name} ${text}: not a whole number`);
  return Number(text);
}

async function main(words: readonly string[]): Promise<number> {
  const index = commandIndex(words);
  const { values } = parseArgs({ args: words.slice(0, index), options: OPTIONS });
  const command = words.slice(words[index] === '--' ? index + 1 : index);
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const why = whyNoPrograms();
  if (why !== undefined) {
    console.error(`vm: ${why}`);
    return UNAVAILABLE;
  }
  if (values.prepare === true) {
    try {
      const kernel = await prepareKernel();
      console.log(`test machine: ${kernel.name}, ${(await chooseAccelerator()) === 'kvm' ? 'KVM' : 'emulation (KVM does not work here)'}`);
      return 0;
    } catch (error) {
      if (!(error instanceof MachineError)) throw error;
      console.error(`vm: ${error.message}`);
      return UNAVAILABLE;
    }
  }
  const accelerator = values.accel;
  if (accelerator !== undefined && accelerator !== 'kvm' && accelerator !== 'tcg')
    throw new RangeError(`--accel ${accelerator}: kvm or tcg`);
  const terminal = process.stdin.isTTY && process.stdout.isTTY;
  const limit = count('limit', values.limit) ?? (command.length === 0 ? 0 : 300);
  const { status } = await runInMachine({
    command: command.length > 1 ? command : (command[0] ?? (terminal ? 'exec bash' : 'exec sh')),
    stdio: terminal ? 'terminal' : 'inherit',
    cpus: count('cpus', values.cpus),
    memory: count('memory', values.memory),
    hugePages: count('huge-pages', values['huge-pages']),
    limit: limit * 1000,
    writable: values.write,
    modules: values.module,
    kernelArguments: values.append,
    qemuArguments: (values.qemu ?? []).flatMap((text) => text.split(' ').filter((word) => word !== '')),
    accelerator,
  });
  return status;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof MachineError) {
    console.error(`vm: ${error.message}`);
    process.exitCode = error.late ? 124 : 125;
  } else if (error instanceof RangeError || (error instanceof TypeError && 'code' in error)) {
    console.error(`vm: ${error.message}\n\n${HELP}`);
    process.exitCode = 2;
  } else {
    throw error;
  }
}
