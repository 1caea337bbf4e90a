/**
 * dpdk-ts-devbind: shows which driver of the kernel holds which PCI device, and gives devices to another one. Options and output have
 * the shape of dpdk-devbind.py.
 * @module
 */
import { parseArgs } from 'node:util';
import { parsePciAddress } from '../pci/address.ts';
import { readPciDevice, type PciDevice } from '../pci/sysfs.ts';
import { bind, enableNoIommuMode, groupNotice, unbind, type BindOptions } from './devbind/bind.ts';
import { isLoaded, matches } from './devbind/drivers.ts';
import { GROUPS, readKnownDevices, statusText } from './devbind/status.ts';

const PROGRAM = 'dpdk-ts-devbind';
const USAGE = `usage: ${PROGRAM} [-h] [-s] [--status-dev {${Object.keys(GROUPS).sort().join(',')}}]
       [-b DRIVER | -u] [--noiommu-mode] [--force] [DEVICE ...]`;
const HELP = `${USAGE}

Shows PCI devices and their drivers, and binds devices to drivers.

  DEVICE                an address, [DOMAIN:]BUS:DEVICE.FUNCTION, * allowed; or the name of a network interface
  -h, --help            this text
  -s, --status          every device of the groups below
  --status-dev GROUP    those of one group
  -b, --bind DRIVER     gives the devices to this driver of the kernel; none: to no driver
  -u, --unbind          the same as --bind none
  --noiommu-mode        lets vfio-pci take devices that no IOMMU keeps in bounds, where the kernel can do that
  --force               changes network devices over which the kernel routes packets, too

Examples:
  ${PROGRAM} --status-dev net
  ${PROGRAM} --bind=vfio-pci 00:10.0
  ${PROGRAM} --bind=virtio-pci 0000:00:10.0
  ${PROGRAM} -u eth1
`;

const OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  status: { type: 'boolean', short: 's' },
  'status-dev': { type: 'string' },
  bind: { type: 'string', short: 'b' },
  unbind: { type: 'boolean', short: 'u' },
  force: { type: 'boolean' },
  'noiommu-mode': { type: 'boolean' },
} as const;

export interface DevbindContext {
  readonly output: (text: string) => void;
  readonly errors: (text: string) => void;
  /** Of the file system. Default `/`. */
  readonly root?: string;
}

class Refusal extends Error {
  readonly status: number;
  readonly usage: boolean;

  constructor(message: string, status: number, usage: boolean) {
    super(message);
    this.status = status;
    this.usage = usage;
  }
}

/** @returns the exit status: 0; 1 when something could not be done; 2 for arguments that cannot be read */
export function runDevbind(argv: readonly string[], context: DevbindContext): number {
  try {
    return perform(argv, context);
  } catch (error) {
    if (error instanceof Refusal) {
      context.errors(`${error.message}\n`);
      if (error.usage) context.output(`${USAGE}\n`);
      return error.status;
    }
    context.errors(`${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}

function perform(argv: readonly string[], { output, errors, root = '/' }: DevbindContext): number {
  const { values, positionals } = readArguments(argv);
  if (values.help === true) {
    output(HELP);
    return 0;
  }
  const driver = values.bind ?? (values.unbind === true ? 'none' : undefined);
  const group = values['status-dev'];
  const groups = values.status === true ? Object.keys(GROUPS) : group === undefined ? [] : [group];
  if (group !== undefined && GROUPS[group] === undefined) {
    throw new Refusal(`Error: --status-dev ${group}: choose from ${Object.keys(GROUPS).sort().join(', ')}`, 2, true);
  }
  if (values.bind !== undefined && values.unbind === true) throw new Refusal('Error: --bind and --unbind exclude each other', 2, true);
  if (driver === undefined && groups.length === 0 && values['noiommu-mode'] !== true) {
    throw new Refusal('Error: No action specified for devices. Please give a --bind, --unbind or --status option', 1, true);
  }
  if (driver !== undefined && positionals.length === 0) throw new Refusal('Error: No devices specified.', 1, true);
  if (values['noiommu-mode'] === true) enableNoIommuMode(root);
  const notice = (line: string): void => {
    errors(`${line}\n`);
  };
  const done = driver === undefined || change(driver, positionals, { force: values.force === true, root, notice });
  output(statusText(groups, root));
  return done ? 0 : 1;
}

function readArguments(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new Refusal(`${PROGRAM}: error: ${error instanceof Error ? error.message : String(error)}`, 2, true);
  }
}

/** @returns whether every device is as it was to be */
function change(driver: string, names: readonly string[], options: BindOptions): boolean {
  const { root, notice } = options;
  const known = readKnownDevices(root);
  const release = driver.toLowerCase() === 'none';
  if (!release) {
    if (findDevices(driver, known).length > 0) {
      throw new Refusal(
        `Error: Driver '${driver}' does not look like a valid driver. Did you forget to specify the driver to bind devices to?`,
        1,
        false,
      );
    }
    if (!isLoaded(driver, root)) throw new Refusal(`Error: Driver '${driver}' is not loaded. As root: modprobe ${driver}`, 1, false);
  }
  const devices = names.flatMap((name) => {
    const found = findDevices(name, known);
    if (found.length === 0) {
      throw new Refusal(`Unknown device: ${name}. Please specify device in "bus:slot.func" format`, 1, false);
    }
    return found;
  });
  let done = true;
  for (const device of devices) {
    try {
      if (release) unbind(device, options);
      else bind(device, driver, options);
    } catch (error) {
      notice(error instanceof Error ? error.message : String(error));
      done = false;
    }
  }
  // when all are bound: they may be of one group
  for (const device of driver === 'vfio-pci' ? devices : []) {
    const text = readPciDevice(device.address, root)?.driver === driver ? groupNotice(device, root) : undefined;
    if (text !== undefined) notice(text);
  }
  return done;
}

/** By address, with the domain or without; by a pattern of addresses; by the name of an interface. */
function findDevices(name: string, known: readonly PciDevice[]): readonly PciDevice[] {
  const address = parsePciAddress(name);
  const patterns = address === undefined ? [name, `0000:${name}`] : [address];
  const found = known.filter((device) => patterns.some((pattern) => matches(pattern, device.address)));
  return found.length > 0 ? found : known.filter(({ interfaces }) => interfaces.includes(name));
}
