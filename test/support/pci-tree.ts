/**
 * A sysfs with PCI devices in a folder of its own: files and links as the kernel has them, without the kernel behind them.
 * @module
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TreeDevice {
  readonly address: string;
  readonly vendor?: number;
  readonly device?: number;
  readonly classCode?: number;
  readonly driver?: string;
  readonly group?: number;
  readonly interfaces?: readonly string[];
  readonly resource?: string;
  readonly modalias?: string;
}

export class PciTree implements Disposable {
  readonly root = mkdtempSync(join(tmpdir(), 'dpdk-ts-pci-'));

  constructor(devices: readonly TreeDevice[], drivers: readonly string[] = []) {
    for (const driver of drivers) this.file(`sys/bus/pci/drivers/${driver}/bind`, '').file(`sys/bus/pci/drivers/${driver}/unbind`, '');
    for (const device of devices) this.#add(device);
  }

  file(path: string, text: string): this {
    mkdirSync(join(this.root, path, '..'), { recursive: true });
    writeFileSync(join(this.root, path), text);
    return this;
  }

  read(path: string): string {
    return readFileSync(join(this.root, path), 'utf8');
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true });
  }

  #add(device: TreeDevice): void {
    const { address, vendor = 0x1af4, device: id = 0x1041, classCode = 0x20000, driver, group, interfaces = [], resource = '' } = device;
    const path = `sys/bus/pci/devices/${address}`;
    const hex = (value: number, digits: number): string => `0x${value.toString(16).padStart(digits, '0')}\n`;
    this.file(`${path}/vendor`, hex(vendor, 4))
      .file(`${path}/device`, hex(id, 4))
      .file(`${path}/class`, hex(classCode, 6))
      .file(`${path}/numa_node`, '-1\n')
      .file(`${path}/resource`, resource)
      .file(`${path}/modalias`, `${device.modalias ?? 'pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00'}\n`)
      .file(`${path}/driver_override`, '(null)\n');
    for (const name of interfaces) this.file(`${path}/virtio0/net/${name}/address`, '');
    if (driver !== undefined) symlinkSync(`../../../../bus/pci/drivers/${driver}`, join(this.root, path, 'driver'));
    if (group === undefined) return;
    symlinkSync(`../../../../kernel/iommu_groups/${String(group)}`, join(this.root, path, 'iommu_group'));
    this.file(`sys/kernel/iommu_groups/${String(group)}/devices/${address}`, '');
  }
}
