/** A picture instead of words: chosen, dropped or pasted. */

import { button, make } from "./dom.js";

export class ImageInput {
  /** @type {Blob | null} */
  image = null;
  /** Under which the service keeps it; empty if it does not yet. */
  name = "";
  #address = "";

  /**
   * @param {HTMLElement} chip Shows the picture.
   * @param {HTMLInputElement} file
   * @param {HTMLButtonElement} open
   * @param {() => void} onChange
   * @param {(files: File[]) => boolean} onFiles Other files that were dropped.
   */
  constructor(chip, file, open, onChange, onFiles) {
    this.onFiles = onFiles;
    this.chip = chip;
    this.onChange = onChange;
    open.addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      this.#take(file.files);
      file.value = "";
    });
    document.addEventListener("paste", (event) => this.#take(event.clipboardData?.files) && event.preventDefault());
    this.#installDrop();
  }

  /** @param {Blob} image @param {string} name Under which the service keeps it; empty if it does not yet. */
  show(image, name) {
    this.clear();
    this.image = image;
    this.name = name;
    this.#address = URL.createObjectURL(image);
    const remove = button("", () => {
      this.clear();
      this.onChange();
    }, { class: "quiet", "aria-label": "Remove the image" });
    remove.append(make("span", { "aria-hidden": "true", text: "✕" }));
    const title = image instanceof File && image.name ? image.name : "picture";
    this.chip.replaceChildren(make("img", { src: this.#address, alt: "" }), make("span", { text: title }), remove);
    this.chip.hidden = false;
  }

  /** Forget the picture, without searching again. */
  clear() {
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = "";
    this.image = null;
    this.name = "";
    this.chip.hidden = true;
    this.chip.replaceChildren();
  }

  #installDrop() {
    const page = document.documentElement;
    const bringsFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!bringsFiles(event)) return;
      event.preventDefault();
      page.classList.add("dropping");
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget === null && page.classList.remove("dropping"));
    document.addEventListener("drop", (event) => {
      page.classList.remove("dropping");
      if (!bringsFiles(event)) return;
      event.preventDefault();
      if (!this.onFiles([...(event.dataTransfer?.files ?? [])])) this.#take(event.dataTransfer?.files);
    });
  }

  /** @param {FileList | null | undefined} files @returns {boolean} Whether there was a picture. */
  #take(files) {
    const image = [...(files ?? [])].find((file) => file.type.startsWith("image/"));
    if (!image) return false;
    this.show(image, "");
    this.onChange();
    return true;
  }
}
