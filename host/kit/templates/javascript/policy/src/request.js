// Nothing in here knows of the host, so that it is tested in Node.

// Characters of all texts of a request together.
export function charactersOf(request) {
  const parts = request.messages.flatMap((message) => message.parts);
  const texts = parts.filter(({ tag }) => tag === "text").map(({ val }) => [...val].length);
  return texts.reduce((sum, length) => sum + length, 0);
}
