// Nothing in here knows of the host, so that it is tested in Node.

// Characters of all texts of a request together.
export function charactersOf(request) {
  const parts = request.messages.flatMap((message) => message.parts);
  const texts = parts.map(({ tag, val }) => (tag === "text" ? val : tag === "tool-result" ? val.content : ""));
  return texts.reduce((sum, text) => sum + [...text].length, 0);
}
