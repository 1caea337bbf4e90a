/**
 * The captures of a session: begun by --capture or at the prompt, ended by a command, by their own limits, or with their ports.
 * @module
 */
import type { Capture, CaptureOptions } from '../../port/capture.ts';
import type { Port } from '../../port/port.ts';
import { VirtioError } from '../../system/error.ts';
import { capturesText } from '../display/captures.ts';
import type { Output } from './output.ts';
import type { PortTable } from './port-table.ts';

export type StartCapture = (port: Port, options: CaptureOptions) => Capture;

export interface CapturesContext {
  readonly ports: PortTable;
  readonly output: Output;
  readonly startCapture: StartCapture | undefined;
}

export class Captures {
  readonly #context: CapturesContext;
  #captures: readonly { readonly port: number; readonly capture: Capture }[] = [];

  constructor(context: CapturesContext) {
    this.#context = context;
  }

  /** @throws VirtioError ENODEV for a port that is not there, or what keeps the capture from beginning */
  begin(id: number, options: CaptureOptions): void {
    const { ports, startCapture } = this.#context;
    const managed = ports.get(id);
    if (managed === undefined)
      throw new VirtioError(`capture: port ${id} is not there; ports: ${ports.ids().join(', ')}`, { code: 'ENODEV' });
    const running = this.#captures.find(({ capture }) => capture.active && capture.file === options.file);
    if (running !== undefined) {
      throw new VirtioError(`capture: ${options.file} is being written for port ${running.port}; stop that capture, or give another file`, {
        code: 'EBUSY',
      });
    }
    if (startCapture === undefined) throw new VirtioError('capture: not possible here', { code: 'EOPNOTSUPP' });
    const capture = startCapture(managed.port, options);
    // of those that have ended, the last of a port and file is remembered
    this.#captures = [...this.#captures.filter((other) => other.port !== id || other.capture.file !== options.file), { port: id, capture }];
  }

  start(id: number, options: CaptureOptions): void {
    this.begin(id, options);
    this.#context.output.say(`Port ${id}: capturing to ${options.file}`);
  }

  async stop(selection: number | 'all'): Promise<void> {
    const { ports, output } = this.#context;
    if (selection !== 'all' && ports.get(selection) === undefined) {
      output.warn(`Invalid port ${selection}`);
      return;
    }
    const chosen = this.#captures.filter(({ port, capture }) => capture.active && (selection === 'all' || port === selection));
    if (chosen.length === 0) output.warn(selection === 'all' ? 'No port is being captured' : `Port ${selection} is not being captured`);
    for (const { port, capture } of chosen) {
      await capture.stop();
      output.say(`Port ${port}: ${capture.statistics().packets} packets captured to ${capture.file}`);
    }
  }

  show(): void {
    this.#context.output.print(capturesText(this.#captures));
  }
}
