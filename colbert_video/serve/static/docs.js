"use strict";

/* Shows openapi.json: one section an address, with its parameters and answers. */

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `${typeOf(schema.items)}[]`;
  if (schema.type === "object" && schema.additionalProperties) return `{name: ${typeOf(schema.additionalProperties)}}`;
  return schema.type || "any";
}

function table(titles, rows) {
  const made = element("table");
  const head = made.createTHead().insertRow();
  titles.forEach((title) => head.append(element("th", title)));
  const body = made.createTBody();
  rows.forEach((cells) => {
    const row = body.insertRow();
    cells.forEach((cell, column) => {
      const data = row.insertCell();
      data.append(column === 0 ? element("code", cell) : cell);
    });
  });
  return made;
}

function parameterRow(parameter) {
  const schema = parameter.schema || {};
  const standard = schema.default === undefined ? (parameter.required ? "required" : "") : JSON.stringify(schema.default);
  return [parameter.name, typeOf(schema), standard, parameter.description || ""];
}

function answerRow([status, answer]) {
  const kinds = Object.entries(answer.content || {}).map(([kind, body]) => typeOf(body.schema) || kind);
  return [status, kinds.join(", "), answer.description || ""];
}

function section(path, method, operation) {
  const made = element("section");
  made.append(element("h2", `${method.toUpperCase()} ${path}`), element("p", operation.description || ""));
  if (operation.parameters) {
    made.append(table(["parameter", "type", "default", ""], operation.parameters.map(parameterRow)));
  }
  if (operation.requestBody) {
    made.append(element("p", `Body: ${Object.keys(operation.requestBody.content).join(", ")}`));
  }
  made.append(table(["status", "answer", ""], Object.entries(operation.responses).map(answerRow)));
  return made;
}

function form(name, schema) {
  const made = element("section");
  const rows = Object.entries(schema.properties || {});
  made.append(element("h2", name), element("p", schema.description || ""));
  made.append(table(["field", "type", ""], rows.map(([field, of]) => [field, typeOf(of), of.description || ""])));
  return made;
}

function show(description) {
  document.getElementById("about").textContent = description.info.description;
  const place = document.getElementById("addresses");
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(methods)) place.append(section(path, method, operation));
  }
  for (const [name, schema] of Object.entries(description.components.schemas)) place.append(form(name, schema));
}

async function load() {
  const status = document.getElementById("status");
  const answer = await fetch("../api/openapi.json");
  const body = await answer.json();
  if (answer.ok) {
    show(body);
    status.remove();
  } else {
    status.textContent = `${body.error.message} ${body.error.remedy}`;
  }
}

load();
