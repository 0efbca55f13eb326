// Starts the page. The locale guard comes first, before any library asks for the language.
import './locale-guard';
import './theme.css';
import { mount } from 'svelte';
import App from './App.svelte';

const target = document.getElementById('app');
if (target) mount(App, { target });
