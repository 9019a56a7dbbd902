/** As text or an attribute of a page. */
export const escapeHTML = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** Colour of a series; the page's style defines six, for light and dark. */
export const seriesColour = (index: number): string => `var(--s${index % 6})`;

/** Colours and their names, below a chart or picture, after what they are colours of. `colour`: as in CSS. */
export function renderKey(entries: readonly { readonly name: string; readonly colour: string }[], of = ""): string {
  const marks = entries.map(
    ({ name, colour }) => `<span><i style="background:${colour}"></i>${escapeHTML(name)}</span>`,
  );
  return `<div class="key">${of && `<span>${escapeHTML(of)}:</span>`}${marks.join("")}</div>`;
}
