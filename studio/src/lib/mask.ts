/** A mask as the marks that it was painted with, in the order in which they were made. */

/** Positions and sizes are fractions of the canvas; a brush's size is one of its longer side. */
export type Mark =
  | { kind: "stroke"; erase: boolean; size: number; points: [number, number][] }
  | { kind: "box"; erase: boolean; left: number; top: number; width: number; height: number }
  | { kind: "invert" }
  | { kind: "clear" };

/** The longer side of the file. It is scaled to the edited image, whatever its size. */
const MOST_PIXELS = 2048;

/** Paint the marks on an empty canvas, in this colour; what is not painted stays transparent. */
export function paint(canvas: HTMLCanvasElement, marks: readonly Mark[], colour: string): void {
  const context = canvas.getContext("2d")!;
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const mark of marks) add(context, mark, colour);
}

/** Paint one more mark; of a stroke, from the point with this index on. */
export function add(context: CanvasRenderingContext2D, mark: Mark, colour: string, from = 0): void {
  const { width, height } = context.canvas;
  context.save();
  context.strokeStyle = context.fillStyle = colour;
  if (mark.kind === "clear") context.clearRect(0, 0, width, height);
  else if (mark.kind === "invert") {
    context.globalCompositeOperation = "xor";
    context.fillRect(0, 0, width, height);
  } else {
    context.globalCompositeOperation = mark.erase ? "destination-out" : "source-over";
    if (mark.kind === "box") {
      context.fillRect(mark.left * width, mark.top * height, mark.width * width, mark.height * height);
    } else drawStroke(context, mark, from);
  }
  context.restore();
}

function drawStroke(
  context: CanvasRenderingContext2D,
  { points, size }: Extract<Mark, { kind: "stroke" }>,
  from: number,
): void {
  const { width, height } = context.canvas;
  context.lineWidth = size * Math.max(width, height);
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  for (const [index, [x, y]] of points.slice(Math.max(from - 1, 0)).entries()) {
    if (index) context.lineTo(x * width, y * height);
    else context.moveTo(x * width, y * height);
  }
  // A tap is a dot.
  if (points.length === 1) context.lineTo(points[0]![0] * width, points[0]![1] * height);
  context.stroke();
}

/** What part of the canvas is painted, 0 to 1, judged by a small copy. */
export function coverage(canvas: HTMLCanvasElement): number {
  const side = 64;
  const small = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true })!;
  small.drawImage(canvas, 0, 0, side, side);
  const { data } = small.getImageData(0, 0, side, side);
  let sum = 0;
  for (let index = 3; index < data.length; index += 4) sum += data[index]!;
  return sum / (255 * side * side);
}

/** The file that the API takes: white where the image may change, on black. */
export async function makeFile(
  marks: readonly Mark[],
  image: { width: number; height: number },
): Promise<File> {
  const scale = Math.min(1, MOST_PIXELS / Math.max(image.width, image.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(image.width * scale);
  canvas.height = Math.round(image.height * scale);
  paint(canvas, marks, "#fff");
  const context = canvas.getContext("2d")!;
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!blob) throw new Error("The browser cannot encode the mask.");
  return new File([blob], "mask.png", { type: "image/png" });
}
