/**
 * A vDPA device behind the kernel's vhost-vdpa: no tap and no kernel thread moves packets, the device itself does.
 *
 *     rings and packets in the arena --- the device, by DMA
 *        \--- /dev/vhost-vdpa-N: features, status, configuration, rings, and which memory the device may reach
 *
 * The device sees the published part of the arena at the arena's own offsets, and nothing else of the process.
 * @module
 */
import { TransportBackend, type TransportBackendOptions } from '../transport-backend.ts';
import { realVdpaSystem, type VdpaSystem } from './system.ts';
import { VdpaTransport } from './transport.ts';

export interface VhostVdpaOptions extends Pick<TransportBackendOptions, 'arena' | 'mac' | 'events' | 'log' | 'gracePeriod'> {
  /** The character device: /dev/vhost-vdpa-0. */
  readonly path: string;
  /** Descriptors of each ring. */
  readonly queueSize: number;
  /** Default: the real system calls. */
  readonly system?: VdpaSystem;
}

export class VhostVdpa extends TransportBackend {
  constructor({ path, system = realVdpaSystem, ...options }: VhostVdpaOptions) {
    super({
      ...options,
      peer: path,
      openTransport: () =>
        new Promise((resolve) => {
          resolve(new VdpaTransport(path, options.arena, system));
        }),
      returns: true,
      watch: system.watch,
    });
  }
}
