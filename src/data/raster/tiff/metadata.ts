import { RegularFile } from "../regular_file.js";
import { readDirectories } from "./directory.js";

/** GDAL's tag for metadata that TIFF has no other place for. */
export const METADATA_TAG = 42112;

const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escapeXML = (text: string): string => text.replace(/[&<>"]/g, (c) => ESCAPES[c]!);
const unescapeXML = (text: string): string =>
  Object.entries(ESCAPES).reduceRight((out, [plain, escaped]) => out.replaceAll(escaped, plain), text);

/** What a band is: GDAL's description, and the factor that makes its samples values. */
export interface BandNote {
  readonly description?: string;
  readonly scale?: number;
}

/** The XML of GDAL's metadata tag. */
export function encodeMetadata(items: ReadonlyMap<string, string>, bands: readonly BandNote[]): string {
  const lines = [...items].map(([name, value]) => `  <Item name="${escapeXML(name)}">${escapeXML(value)}</Item>`);
  bands.forEach(({ description, scale }, i) => {
    const of = (name: string, value: string) =>
      `  <Item name="${name.toUpperCase()}" sample="${i}" role="${name}">${escapeXML(value)}</Item>`;
    if (description !== undefined) lines.push(of("description", description));
    if (scale !== undefined) lines.push(of("scale", String(scale)), of("offset", "0"));
  });
  return `<GDALMetadata>\n${lines.join("\n")}\n</GDALMetadata>\n`;
}

/**
 * The items of a TIFF's metadata tag that belong to the whole image.
 * @throws DataError where the file is no TIFF.
 */
export async function readMetadata(path: string): Promise<ReadonlyMap<string, string>> {
  const file = await RegularFile.open(path);
  try {
    const { directories } = await readDirectories(file);
    const text = (await directories[0]!.text(METADATA_TAG)) ?? "";
    const items = text.matchAll(/<Item name="([^"]*)">([^<]*)<\/Item>/g);
    return new Map([...items].map(([, name, value]) => [unescapeXML(name!), unescapeXML(value!)]));
  } finally {
    await file.close();
  }
}
