// Elements from data. Text only ever enters the page as a text node, so no data can become markup.
export type Child = Node | string | undefined | false;
export type Attributes = { readonly [name: string]: string | undefined };

export function h(tag: string, attributes: Attributes = {}, ...children: Child[]): HTMLElement {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name, value);
  }
  for (const child of children) {
    if (child !== undefined && child !== false) element.append(child);
  }
  return element;
}

export interface Column<Row> {
  name: string;
  cell: (row: Row, index: number) => Child;
  numeric?: boolean;
}

/** A table whose first column heads its rows, in a box that scrolls sideways (by keyboard too) when it is too wide. */
export function table<Row>(caption: string, columns: Column<Row>[], rows: Row[]): HTMLElement {
  const head = columns.map((c) => h("th", { scope: "col", class: c.numeric ? "number" : undefined }, c.name));
  const body = rows.map((row, index) =>
    h("tr", {}, ...columns.map((c, i) => {
      const attributes = { class: c.numeric ? "number" : undefined };
      return i === 0 ? h("th", { scope: "row", ...attributes }, c.cell(row, index)) : h("td", attributes, c.cell(row, index));
    })));
  return h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    h("table", {}, h("caption", {}, h("span", {}, caption)), h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...body)));
}

/** A closed <details> whose content is made when it is first opened: a long run has many rows. */
export function lazy_details(summary: string, content: () => Node): HTMLElement {
  const details = h("details", {}, h("summary", {}, summary));
  details.addEventListener("toggle", () => {
    if (details.childElementCount === 1) details.append(content());
  });
  return details;
}
