/**
 * Names of flow types in lines of testpmd's length.
 * @module
 */

/** Characters a line may have. */
const lineLength = 64;

/** Each name behind two spaces; the last line ends as every other. */
export function flowTypeLines(names: readonly string[]): string {
  let text = '';
  let length = 0;
  for (const name of names) {
    if (length + name.length + 2 >= lineLength) {
      text += '\n';
      length = 0;
    }
    text += `  ${name}`;
    length += name.length + 2;
  }
  return `${text}\n`;
}
