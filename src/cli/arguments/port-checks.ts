/**
 * What testpmd checks of its arguments once the ports are there.
 * @module
 */
import { testpmdFailure } from './failure.ts';
import type { ArgumentFailure } from './failure.ts';
import { MAX_QUEUES } from './testpmd-options.ts';
import type { TestpmdOptions } from './testpmd-settings.ts';

/** The limits of one port; its position in the list is its id. */
export interface PortLimits {
  readonly maxRxQueues: number;
  readonly maxTxQueues: number;
}

/** Lines for stderr when the options ask for more than the ports have (exit status 1); undefined when they do not. */
export function checkAgainstPorts(
  options: Pick<TestpmdOptions, 'nbPorts' | 'rxq' | 'txq'>,
  ports: readonly PortLimits[],
  programName: string,
): readonly string[] | undefined {
  const { nbPorts, rxq, txq } = options;
  let failure: ArgumentFailure | undefined;
  if (nbPorts !== undefined && nbPorts > ports.length) {
    failure = testpmdFailure(`Invalid port ${nbPorts}`, `--nb-ports=${nbPorts}: there are ${ports.length} ports`);
  }
  const rxLimits = ports.map((port) => port.maxRxQueues);
  const txLimits = ports.map((port) => port.maxTxQueues);
  failure ??= checkQueues('rx', rxq, rxLimits) ?? checkQueues('tx', txq, txLimits);
  return failure?.report(programName);
}

function checkQueues(direction: 'rx' | 'tx', queues: number, limits: readonly number[]): ArgumentFailure | undefined {
  const least = Math.min(MAX_QUEUES, ...limits);
  if (queues <= least) return undefined;
  const port = limits.indexOf(least);
  const line = `Fail: input ${direction}q (${queues}) can't be greater than max_${direction}_queues (${least}) of port ${port}`;
  const reason = `--${direction}q=${queues}: port ${port} has ${least}; queues= in its --vdev says how many`;
  return testpmdFailure(`${direction}q ${queues} invalid - must be >= 0 && <= ${least}`, reason, [line]);
}
